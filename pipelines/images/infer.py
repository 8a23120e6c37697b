"""Images through a model to rows of a table, on Beam: read and decode a block, infer, write. [beam]

Elements are blocks, never images. Which images and in what order is the job's affair; what a model makes of a block,
its `BlockHandler`'s.
"""

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from numpy.typing import NDArray

from pipelines.beam import Keep, open_pipeline, take
from pipelines.config import BeamOptions, ImageOptions
from pipelines.images.decode import Decoder
from pipelines.images.progress import Progress, advance
from pipelines.images.read import read_block
from pipelines.images.records import work_folder, write_groups
from pipelines.storage import arrow_schema, describe_shard, write_parquet
from schemas.columns import Table
from schemas.manifest import Shard, TableEntry, column_entries


@dataclass(frozen=True)
class Pixels:
    """A block of decoded images on its way to the model."""

    number: int
    """The block's place in the order of the rows."""
    rows: pa.Table
    """Of the listing, one an image."""
    values: NDArray[np.uint8]
    """(images, height, width, channels)."""


class BlockHandler(ModelHandler[Pixels, tuple[int, bytes], Any]):  # type: ignore[misc]
    """A block of images to (its number, its rows of `table` in Arrow's stream format).

    The model is loaded once a worker. Each kind says how (`load_model`), and what it makes of a block (`columns`).
    """

    table: ClassVar[Table]
    """What is written."""

    def columns(self, block: Pixels, model: Any) -> Sequence[Any]:
        """The columns of `table`, a value an image."""
        raise NotImplementedError

    def run_inference(
        self, batch: Sequence[Pixels], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Each block of the batch through the model."""
        schema = arrow_schema(self.table)
        for block in batch:
            out = pa.BufferOutputStream()
            with pa.ipc.new_stream(out, schema) as stream:
                stream.write_table(pa.table(list(self.columns(block, model)), schema=schema))
            yield block.number, out.getvalue().to_pybytes()

    def batch_elements_kwargs(self) -> dict[str, Any]:
        """An element is a batch already."""
        return {"min_batch_size": 1, "max_batch_size": 1}


def infer(
    rows: pa.Table,
    staging: str,
    table: str,
    handler: BlockHandler,
    options: ImageOptions,
    engine: BeamOptions,
    files: int,
) -> tuple[TableEntry, list[dict[str, str]]]:
    """Run `handler` on the images of `rows`, a listing: (the table, written in at most `files` files; quarantine)."""
    work = work_folder(staging)
    blocks = [rows.slice(start, options.block_rows) for start in range(0, rows.num_rows, options.block_rows)]
    files = min(files, len(blocks))
    parts = [block * files // len(blocks) for block in range(len(blocks))]
    write_groups(f"{work}/listing.parquet", blocks)
    folder = posixpath.join(staging, table)
    with Progress("images", rows.num_rows) as progress, open_pipeline(engine) as pipeline:
        images = InferImages(f"{work}/listing.parquet", folder, parts, options, handler, progress.mark)
        # dict: one a part, one a block with an image that cannot be read.
        _ = pipeline | "InferImages" >> images | "Keep" >> Keep(f"{work}/results.json")
    done = take(f"{work}/results.json")
    shards = sorted((Shard(**result["shard"]) for result in done if "shard" in result), key=lambda shard: shard.path)
    bad = [row for result in done for row in result.get("bad", [])]
    return TableEntry(format="parquet", columns=column_entries(handler.table), shards=tuple(shards)), bad


class InferImages(beam.PTransform):  # type: ignore[misc]
    """Write what a model makes of the images of each row group of `listing`, group `n` to part `parts[n]` in `folder`.

    PBegin -> PCollection[dict] of `shard` (a written file), or of `bad` (rows for the quarantine). A worker holds the
    rows of the part that it writes; they are in the order of the listing.
    """

    def __init__(
        self, listing: str, folder: str, parts: Sequence[int], options: ImageOptions, handler: BlockHandler, mark: str
    ) -> None:
        super().__init__()
        self._folder, self._parts, self._handler = folder, tuple(parts), handler
        self._read = _Read(listing, options, mark)

    def expand(self, begin: beam.Pipeline) -> beam.PCollection:
        """The steps."""
        blocks = (
            begin
            # int: one a block.
            | "Blocks" >> beam.Create(list(range(len(self._parts))), reshuffle=False)
            # int: spread over the workers.
            | "Spread" >> beam.Reshuffle()
            # Pixels: one a block with an image that can be read; dict: one a block with one that cannot.
            | "ReadAndDecode" >> beam.ParDo(self._read).with_outputs("bad", main="good")
        )
        parts = self._parts
        shards = (
            blocks.good
            # (block, bytes): one a block.
            | "Infer" >> RunInference(self._handler)
            # (part, (block, bytes)): one a block.
            | "Part" >> beam.Map(lambda block: (parts[block[0]], block))
            # (part, its blocks): one a part; rows alone are shuffled.
            | "GroupByPart" >> beam.GroupByKey()
            # dict: one a part.
            | "WritePart" >> beam.Map(_write, self._folder, self._handler.table)
        )
        return (shards, blocks.bad) | "Results" >> beam.Flatten()


class _Read(beam.DoFn):  # type: ignore[misc]
    """Number of a block -> its pixels, and what could not be read."""

    def __init__(self, listing: str, options: ImageOptions, mark: str) -> None:
        self._listing, self._options, self._mark = listing, options, mark
        self._decoded = Metrics.counter("images", "images_decoded")
        self._quarantined = Metrics.counter("images", "images_quarantined")

    def process(self, number: int) -> Iterator[Any]:
        """Read and decode one block."""
        fs, path = fsspec.core.url_to_fs(self._listing)
        with fs.open(path, "rb") as file:
            block = read_block(pq.ParquetFile(file).read_row_group(number), Decoder(self._options))
        self._decoded.inc(block.rows.num_rows)
        self._quarantined.inc(len(block.bad))
        advance(self._mark, block.rows.num_rows + len(block.bad))
        if block.bad:
            yield beam.pvalue.TaggedOutput("bad", {"bad": block.bad})
        if block.pixels:
            shape = len(block.pixels), self._options.height, self._options.width, self._options.channels
            values = np.frombuffer(b"".join(block.pixels), np.uint8).reshape(shape)
            yield Pixels(number, block.rows, values)


def _write(element: tuple[int, Iterable[tuple[int, bytes]]], folder: str, table: Table) -> dict[str, Any]:
    """Write one part: its blocks in their order."""
    number, blocks = element
    staging, into = posixpath.split(folder)
    name = f"{into}/part-{number:05d}.parquet"
    fs, path = fsspec.core.url_to_fs(folder)
    fs.makedirs(path, exist_ok=True)
    read = (pa.ipc.open_stream(data).read_all() for _, data in sorted(blocks))
    batches = (batch for rows in read for batch in rows.to_batches())
    rows = write_parquet(posixpath.join(staging, name), batches, arrow_schema(table))
    return {"shard": describe_shard(staging, name, rows).model_dump(mode="json")}
