"""Examples to TFRecord shards, on Spark: encode, shuffle by shard, sort by the global order, one task a file. [spark]

What a record holds is left to `encode`, how a file is written to `shard_file`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from pipelines.content.encoder import Encoder
from pipelines.records.encode import (
    EncodeRows,
    catalogue_source_columns,
    encode_batch,
    encode_catalogue,
    example_columns,
)
from pipelines.records.shard_file import Written, remove_strays, write_shard
from pipelines.spark import map_batches
from schemas.fitted import EncoderState

_PLACED = "shard int, order_key bigint, example_id string, event_time bigint, label float, record binary"
_WRITTEN = "shard int, written string"
_WRITTEN_ARROW = pa.schema([("shard", pa.int32()), ("written", pa.string())])


def place_records(examples: DataFrame, state: EncoderState, seed: int, num_shards: int) -> DataFrame:
    """Each example's record and its place in the order, as `encode.PLACED`."""
    return _placed(examples.select(*example_columns(state)), encode_batch, state, seed, num_shards)


def place_catalogue(catalogue: DataFrame, state: EncoderState, seed: int, num_shards: int) -> DataFrame:
    """The same of the catalogue's rows."""
    return _placed(catalogue.select(*catalogue_source_columns(state)), encode_catalogue, state, seed, num_shards)


def _placed(rows: DataFrame, encode: EncodeRows, state: EncoderState, seed: int, num_shards: int) -> DataFrame:
    def placed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        encoder = Encoder(state)
        for batch in batches:
            yield encode(batch, encoder, seed, num_shards)

    return map_batches(rows, placed, _PLACED)


def write_shards(
    placed: DataFrame, folder: str, names: Sequence[str], spans: Sequence[tuple[int, int]]
) -> list[Written]:
    """Write each row to the file `names[shard]` under `folder`, in the global order.

    `placed`: as `encode.PLACED`. `spans`: the earliest and latest event_time of each shard's split. A shard that no
    row falls into is a file without records.
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        first = next(batches, None)
        if first is not None:
            number = first.column("shard")[0].as_py()
            written = write_shard(in_total_order(chain([first], batches)), folder, names[number], spans[number])
            yield pa.RecordBatch.from_pydict(
                {"shard": [number], "written": [written.model_dump_json()]}, _WRITTEN_ARROW
            )

    # A task's partition is its shard, and Spark spills what it sorts: memory stays modest, however large the shard. One
    # integer it sorts by radix; the ids are left to `in_total_order`.
    ordered = placed.repartitionById(len(names), "shard").sortWithinPartitions("order_key")
    rows = map_batches(ordered, write, _WRITTEN).collect()
    found = {row["shard"]: Written.model_validate_json(row["written"]) for row in rows}
    shards = [
        found[number] if number in found else write_shard((), folder, name, spans[number])
        for number, name in enumerate(names)
    ]
    remove_strays(folder, names)
    return shards


def in_total_order(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows that come sorted by order_key, sorted by (order_key, example_id): of two ids hardly ever one key is made."""
    held: pa.RecordBatch | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        if held is not None and held.column("order_key")[-1] == batch.column("order_key")[0]:
            held = pa.concat_batches([held, batch])
            continue
        if held is not None:
            yield _by_id_within_key(held)
        held = batch
    if held is not None:
        yield _by_id_within_key(held)


def _by_id_within_key(batch: pa.RecordBatch) -> pa.RecordBatch:
    keys = batch.column("order_key").to_numpy()
    if not (keys[1:] == keys[:-1]).any():
        return batch
    return batch.take(pc.sort_indices(batch, [("order_key", "ascending"), ("example_id", "ascending")]))
