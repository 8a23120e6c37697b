"""Events and moments of a key brought together and swept as arrays. [spark around numpy]

Only keys, clocks and what is computed of events cross between Spark and numpy: however wide the rows that ask,
they are joined afterwards, so the cost of a sweep is that of its events and its distinct moments. A partition of those
is held in memory.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.preferences.clock import CLOCK
from pipelines.preferences.windows import Events, Queries

Compute = Callable[[Events, pa.StructArray, Queries, int], list[pa.Array]]
"""(key and times of events, all their columns, queries, number of keys) -> the added columns, a row per query."""
_BLOCK = 65_536
_OWN = ("_key", "_first", "_second", "_is_event")


def sweep(moments: DataFrame, events: DataFrame, *, key: str, added: T.StructType, compute: Compute) -> DataFrame:
    """The distinct moments (`key`, as_of, known_by) and the columns `added`, made of the events of the same `key`.

    `moments` has at least those three columns; events have `key`, event_time, available_time and what `compute`
    needs. A moment whose key is null is left out. A key's rows are all in one partition, however many.
    """
    rest = [name for name in events.columns if name not in (key, "event_time", "available_time")]
    both = (
        events.where(F.col(key).isNotNull())
        .select(
            F.col(key).alias("_key"),
            F.col("event_time").alias("_first"),
            F.col("available_time").alias("_second"),
            F.lit(True).alias("_is_event"),
            *rest,
        )
        .unionByName(
            moments.where(F.col(key).isNotNull()).select(
                F.col(key).alias("_key"),
                F.col("as_of").alias("_first"),
                F.col("known_by").alias("_second"),
                F.lit(False).alias("_is_event"),
            ),
            allowMissingColumns=True,
        )
    )
    partitions = int(moments.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    clock = [T.StructField(name, T.LongType()) for name in CLOCK]
    fields = T.StructType([T.StructField(key, T.StringType()), *clock, *added])
    names = fields.names

    def sweep_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _sweep_partition(batches, names, compute)

    return both.repartition(partitions, "_key").mapInArrow(sweep_partition, fields)


def _sweep_partition(batches: Iterator[pa.RecordBatch], names: list[str], compute: Compute) -> Iterator[pa.RecordBatch]:
    """Split into events and distinct moments, compute, and give the moments with what was added."""
    blocks = list(batches)
    if not blocks:
        return
    both = pa.Table.from_batches(blocks)
    keys = both.column("_key").dictionary_encode().combine_chunks()
    codes = keys.indices.to_numpy().astype(np.int64)
    first, second, is_event = (both.column(name).to_numpy() for name in ("_first", "_second", "_is_event"))
    moments = _distinct(Queries(codes[~is_event], first[~is_event], second[~is_event]))
    if not len(moments.key):
        return
    events = Events(codes[is_event], first[is_event], second[is_event])
    columns = both.filter(both.column("_is_event")).drop_columns(list(_OWN)).to_struct_array().combine_chunks()
    added = compute(events, columns, moments, len(keys.dictionary))
    found = pa.RecordBatch.from_arrays(
        [keys.dictionary.take(pa.array(moments.key)), pa.array(moments.as_of), pa.array(moments.known_by), *added],
        names=names,
    )
    for start in range(0, found.num_rows, _BLOCK):
        yield found.slice(start, _BLOCK)


def _distinct(moments: Queries) -> Queries:
    """Each moment once, in order."""
    order = np.lexsort(moments[::-1])
    columns = np.stack(moments)[:, order]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (columns[:, 1:] != columns[:, :-1]).any(axis=0)
    return Queries(*columns[:, is_new])
