"""Placed records to TFRecord shards, on Beam: cut blocks by shard, group, sort by the global order, one file a shard.

The bytes are those of the Spark writer. Records go from step to step through files beside the shards, and only their
places through the runner, which for bulk data is slow (gRPC) and, the local one, holds in memory all that it groups.
Where the records come from is left to the pipeline before. [beam]
"""

import posixpath
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from pipelines.beam import take
from pipelines.records.shard_file import Written, remove_strays, write_shard

Piece = tuple[str, int, int]
"""Rows of one block and shard in Arrow's stream format: file, offset and bytes. Without bytes, no rows."""
_PIECES = "_pieces"
_BLOCK_ROWS = 8192
"""Rows copied at a time into the order of their file."""


class WriteShards(beam.PTransform):  # type: ignore[misc]
    """Write every record to the file `names[shard]` under `folder`, in the global order, and describe the files.

    PCollection[pa.RecordBatch] with the columns of `encode.PLACED` -> PCollection[Written], one a shard, in no order; a
    shard that no record falls into is a file without records. `spans`: the earliest and latest event_time of each
    shard's split. A worker holds the shard that it sorts twice over: choose as many shards as that asks for. A bundle
    run again leaves the same files. `folder` must be one that all workers reach; `take_written` tidies it up.
    """

    def __init__(self, folder: str, names: Sequence[str], spans: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self._folder, self._names, self._spans = folder, tuple(names), tuple(spans)

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """The steps, all of them over blocks: a runner that moves 20,000 elements a second moves millions of rows."""
        # (shard, piece): as many as there are blocks times shards.
        pieces = blocks | "CutByShard" >> beam.ParDo(_Cut(self._folder)).with_output_types(tuple[int, Piece])
        # (shard, piece without rows): one a shard, so that each is written.
        every = blocks.pipeline | "EveryShard" >> beam.Create([(n, ("", 0, 0)) for n in range(len(self._names))])
        return (
            (pieces, every)
            | "PiecesOfAll" >> beam.Flatten()
            # (shard, its pieces): one a shard.
            | "GroupByShard" >> beam.GroupByKey()
            # Written: one a shard.
            | "SortAndWrite"
            >> beam.ParDo(_WriteShard(self._folder, self._names, self._spans)).with_output_types(Written)
        )


def take_written(path: str, names: Sequence[str]) -> list[Written]:
    """What `Keep` kept at `written_path`, in the order of `names`; all that is beside the shards is removed."""
    fs, file = fsspec.core.url_to_fs(path)
    kept = take(path)
    remove_strays(posixpath.dirname(path), names)
    pieces = posixpath.join(posixpath.dirname(file), _PIECES)
    if fs.exists(pieces):
        fs.rm(pieces, recursive=True)
    found = {w.shard.path: w for w in map(Written.model_validate, kept)}
    fs.rm(file)
    return [found[name] for name in names]


class _WriteShard(beam.DoFn):  # type: ignore[misc]
    """(shard, its pieces) -> its file."""

    def __init__(self, folder: str, names: Sequence[str], spans: Sequence[tuple[int, int]]) -> None:
        self._folder, self._names, self._spans = folder, names, spans
        self._records = Metrics.counter("records", "records_written")
        self._bytes = Metrics.counter("records", "bytes_written")
        self._shards = Metrics.counter("records", "shards_written")

    def process(self, element: tuple[int, Iterable[Piece]]) -> Iterator[Written]:
        """Sort and write one shard."""
        number, pieces = element
        name = self._names[number]
        written = write_shard(_in_order(pieces, self._records), self._folder, name, self._spans[number])
        self._bytes.inc(written.shard.bytes)
        self._shards.inc()
        yield written


class _Cut(beam.DoFn):  # type: ignore[misc]
    """A block -> the rows of each of its shards, in one file whose name no other attempt has."""

    def __init__(self, folder: str) -> None:
        self._folder = posixpath.join(folder, _PIECES)

    def process(self, block: pa.RecordBatch) -> Iterator[tuple[int, Piece]]:
        """Sort one block by shard and write it."""
        fs, folder = fsspec.core.url_to_fs(self._folder)
        fs.makedirs(folder, exist_ok=True)
        path = posixpath.join(self._folder, f"{uuid.uuid4().hex}.arrow")
        shards = block.column("shard").to_numpy()
        order = np.argsort(shards, kind="stable")
        ordered, starts = block.take(pa.array(order)), np.flatnonzero(np.diff(shards[order], prepend=-1)).tolist()
        found: list[tuple[int, Piece]] = []
        with fsspec.open(path, "wb") as file:
            for start, end in pairwise([*starts, len(shards)]):
                out = pa.BufferOutputStream()
                with pa.ipc.new_stream(out, block.schema) as stream:
                    stream.write_batch(ordered.slice(start, end - start))
                piece = out.getvalue()
                found.append((int(shards[order[start]]), (path, file.tell(), piece.size)))
                file.write(piece)
        yield from found


def _read(piece: Piece) -> pa.Table:
    path, offset, size = piece
    fs, path = fsspec.core.url_to_fs(path)
    return pa.ipc.open_stream(fs.cat_file(path, offset, offset + size)).read_all()


def _in_order(pieces: Iterable[Piece], count: Metrics.DelegatingCounter) -> Iterator[pa.RecordBatch]:
    """The rows of all pieces by (order_key, example_id), some thousand at a time, counted."""
    tables = [_read(piece) for piece in pieces if piece[2]]
    if not tables:
        return
    table = pa.concat_tables(tables)
    place = table.schema.get_field_index("record")
    # A shard may hold more than the 2 GiB that the offsets of a binary column reach.
    table = table.set_column(place, "record", table["record"].cast(pa.large_binary())).combine_chunks()
    tables.clear()
    order = pc.sort_indices(table, [("order_key", "ascending"), ("example_id", "ascending")])
    for start in range(0, len(order), _BLOCK_ROWS):
        rows = table.take(order.slice(start, _BLOCK_ROWS))
        (batch,) = rows.set_column(place, "record", rows["record"].cast(pa.binary())).combine_chunks().to_batches()
        count.inc(batch.num_rows)
        yield batch


def written_path(folder: str) -> str:
    """Where `Keep` puts its list while a dataset is staged in `folder`."""
    return posixpath.join(folder, "_written.json")
