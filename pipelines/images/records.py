"""Images to TFRecord shards, on Beam: a worker reads the images of a shard in their order, and writes it. [beam]

Elements are shards, never images. What the rows are and where they go is left to `plan`, a file's form to
`records.shard_file`.
"""

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from pipelines.config import ImageOptions
from pipelines.images.decode import Decoder
from pipelines.images.progress import advance
from pipelines.images.read import Block, read_blocks
from pipelines.records.framing import framed
from pipelines.records.shard_file import Written, write_shard
from pipelines.records.wire import encode
from pipelines.storage import whole_file
from schemas.images import image_columns

_NEEDED = ["source", "name", "file", "offset", "size", "height", "width", "label", "item_id", "example_id", "number"]


class WriteImageShards(beam.PTransform):  # type: ignore[misc]
    """Write the images of each row group of `listing` to the file of that name under `folder`.

    PBegin -> PCollection[dict] of `written` and `bad` (quarantine), one a shard, in no order. A bundle run again leaves
    the same files. A worker holds `options.block_rows` images at a time, however large a shard is.
    """

    def __init__(
        self, listing: str, folder: str, names: Sequence[str], options: ImageOptions, classes: int, mark: str
    ) -> None:
        super().__init__()
        self._names, self._write = names, _WriteShard(listing, folder, names, options, classes, mark)

    def expand(self, begin: beam.Pipeline) -> beam.PCollection:
        """The steps."""
        return (
            begin
            # int: one a shard.
            | "Shards" >> beam.Create(list(range(len(self._names))), reshuffle=False)
            # int: spread over the workers.
            | "Spread" >> beam.Reshuffle()
            # dict: one a shard.
            | "ReadDecodeWrite" >> beam.ParDo(self._write)
        )


class _WriteShard(beam.DoFn):  # type: ignore[misc]
    """Number of a shard -> its file, described."""

    def __init__(
        self, listing: str, folder: str, names: Sequence[str], options: ImageOptions, classes: int, mark: str
    ) -> None:
        self._listing, self._folder, self._names = listing, folder, tuple(names)
        self._options, self._mark = options, mark
        self._columns = image_columns(options.height, options.width, options.channels, classes)
        self._half = classes / 2
        self._decoded = Metrics.counter("images", "images_decoded")
        self._quarantined = Metrics.counter("images", "images_quarantined")

    def process(self, number: int) -> Iterator[dict[str, Any]]:
        """Read, decode and write one shard."""
        fs, path = fsspec.core.url_to_fs(self._listing)
        with fs.open(path, "rb") as file:
            rows = pq.ParquetFile(file).read_row_group(number, columns=_NEEDED)
        bad: list[dict[str, str]] = []

        def batches() -> Iterator[pa.RecordBatch]:
            for block in read_blocks(rows, Decoder(self._options), self._options.block_rows):
                bad.extend(block.bad)
                self._decoded.inc(block.rows.num_rows)
                self._quarantined.inc(len(block.bad))
                if block.rows.num_rows:
                    yield self._encoded(block)
                advance(self._mark, block.rows.num_rows + len(block.bad))

        written: Written = write_shard(batches(), self._folder, self._names[number], (0, 0))
        yield {"written": written.model_dump(mode="json"), "bad": bad}

    def _encoded(self, block: Block) -> pa.RecordBatch:
        """What `write_shard` takes: images have no time, and the upper half of the classes stands for positives."""
        numbers = block.rows["number"].to_numpy()
        pixels = np.empty(len(block.pixels), object)
        pixels[:] = block.pixels
        ids = block.rows["example_id"].combine_chunks()
        values = {"example_id": np.array(ids.to_pylist(), dtype="S"), "label": numbers, "image": pixels}
        records = framed(*encode(values, self._columns))
        labels = pa.array((numbers >= self._half).astype(np.float32))
        times = pa.array(np.zeros(len(ids), np.int64))
        return pa.RecordBatch.from_arrays(
            [ids, times, labels, records], names=["example_id", "event_time", "label", "record"]
        )


def write_groups(path: str, groups: Sequence[pa.Table]) -> None:
    """Write tables as the row groups of one Parquet file, in their order: each worker reads its own."""
    with whole_file(path) as file, pq.ParquetWriter(file, groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=max(group.num_rows, 1))


def work_folder(staging: str) -> str:
    """Where a job keeps what is not to be published."""
    return posixpath.join(staging, "_work")
