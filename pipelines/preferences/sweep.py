"""Events and queries of a key brought together and swept as arrays. [spark around numpy]

A partition's events are held in memory as the columns that the sweep needs. What queries carry besides passes
through untouched, block by block, so that nothing has to be joined back.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.preferences.windows import Events, Ints, Queries

Compute = Callable[[Events, pa.StructArray, Queries, int], list[pa.Array]]
"""(key and times of events, all their columns, queries, number of keys) -> the added columns, a row per query."""


def sweep(queries: DataFrame, events: DataFrame, *, key: str, added: T.StructType, compute: Compute) -> DataFrame:
    """`queries` and the columns `added`, which `compute` makes of the events of the same `key`.

    Queries have `key`, as_of and known_by; events have `key`, event_time and available_time. A key's rows are all in
    one partition, however many; queries whose key is null see no event, and are spread.
    """
    events = events.where(F.col(key).isNotNull())
    no_event, no_query = F.lit(None).cast(events.schema), F.lit(None).cast(queries.schema)
    both = events.select(
        F.col(key).alias("key"), F.struct(*events.columns).alias("event"), no_query.alias("query")
    ).unionByName(
        queries.select(F.col(key).alias("key"), no_event.alias("event"), F.struct(*queries.columns).alias("query"))
    )
    place = F.when(F.col("key").isNull(), F.xxhash64("query")).otherwise(F.xxhash64("key"))
    partitions = int(queries.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    fields = [T.StructField(field.name, field.dataType, True) for field in (*queries.schema, *added)]
    names = [field.name for field in fields]

    def sweep_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _sweep_partition(batches, names, compute)

    return both.repartition(partitions, place).mapInArrow(sweep_partition, T.StructType(fields))


def _sweep_partition(batches: Iterator[pa.RecordBatch], names: list[str], compute: Compute) -> Iterator[pa.RecordBatch]:
    """Split into events and queries, compute, and give the queries back in the blocks they came in."""
    blocks: dict[str, list[pa.RecordBatch]] = {"event": [], "query": []}
    for batch in batches:
        for side, kept in blocks.items():
            part = batch.filter(pc.is_valid(batch.column(side))).select(["key", side])
            if part.num_rows:
                kept.append(part)
    if not blocks["query"]:
        return
    events = pa.Table.from_batches(blocks["event"], batch.schema.empty_table().select(["key", "event"]).schema)
    columns = events.column("event").combine_chunks()
    codes, keys = _key_codes([*events.column("key").chunks, *(block.column("key") for block in blocks["query"])])
    event_key, query_key = np.split(codes, [events.num_rows])
    as_of, known_by = (
        np.concatenate([block.column("query").field(name).to_numpy() for block in blocks["query"]])
        for name in ("as_of", "known_by")
    )
    times = [columns.field(name).to_numpy() for name in ("event_time", "available_time")]
    added = compute(Events(event_key, *times), columns, Queries(query_key, as_of, known_by), keys)
    start = 0
    for block in blocks["query"]:
        pieces = [values.slice(start, block.num_rows) for values in added]
        start += block.num_rows
        yield pa.RecordBatch.from_arrays([*block.column("query").flatten(), *pieces], names=names)


def _key_codes(pieces: list[pa.Array]) -> tuple[Ints, int]:
    """A code for each key, null last of all, and the number of codes."""
    coded = pa.chunked_array(pieces, pa.string()).dictionary_encode().combine_chunks()
    keys = len(coded.dictionary)
    return coded.indices.fill_null(keys).to_numpy().astype(np.int64), keys + 1
