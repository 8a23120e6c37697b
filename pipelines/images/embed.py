"""Images through a Keras model to content vectors, on Beam: read and decode a block, infer, write. [beam, keras]

Elements are blocks, never images. Which images and in what order is the job's affair.
"""

import posixpath
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from numpy.typing import NDArray

from pipelines.config import EmbedOptions, ImageOptions
from pipelines.errors import ConfigError
from pipelines.images.decode import Decoder
from pipelines.images.progress import advance
from pipelines.images.read import read_block
from pipelines.storage import arrow_schema, describe_shard, write_parquet
from schemas.columns import TIME_MIN_US
from schemas.images import CONTENT_VECTORS


@dataclass(frozen=True)
class Pixels:
    """A block of decoded images on its way to the model."""

    number: int
    """The block's place in the order of the rows."""
    ids: list[str]
    valid_from: list[int]
    values: NDArray[np.uint8]
    """(images, height, width, channels)."""


class KerasHandler(ModelHandler[Pixels, tuple[int, bytes], Any]):  # type: ignore[misc]
    """A block of images to (its number, its CONTENT_VECTORS rows in Arrow's stream format).

    The model is loaded once a worker. `rows`: the size of a batch; a shorter one is filled up, so that an image's
    vector does not depend on how many others came with it.
    """

    def __init__(self, options: EmbedOptions, rows: int) -> None:
        super().__init__()
        self._options, self._rows = options, rows

    def load_model(self) -> Any:
        """The encoder."""
        return load_encoder(self._options)

    def run_inference(
        self, batch: Sequence[Pixels], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Each block of the batch through the model."""
        for block in batch:
            filled = np.zeros((self._rows, *block.values.shape[1:]), np.float32)
            low, high = self._options.value_range
            filled[: len(block.ids)] = block.values * np.float32((high - low) / 255) + np.float32(low)
            vectors = np.asarray(model(filled, training=False), np.float32)[: len(block.ids)]
            yield block.number, _rows(block, vectors)

    def batch_elements_kwargs(self) -> dict[str, Any]:
        """An element is a batch already."""
        return {"min_batch_size": 1, "max_batch_size": 1}


class EmbedImages(beam.PTransform):  # type: ignore[misc]
    """Write the vectors of the images of each row group of `listing`, group `n` to the file of part `parts[n]`.

    PBegin -> PCollection[dict] of `shard` (a written file) and `always` (its vectors without a time), or of `bad` (rows
    for the quarantine). A worker holds the vectors of the part that it writes. Groups are in the order
    of (item_id, valid_from), and so is what is written.
    """

    def __init__(self, listing: str, folder: str, parts: Sequence[int], options: ImageOptions, mark: str) -> None:
        super().__init__()
        self._folder, self._parts, self._options = folder, tuple(parts), options
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
            | "Infer" >> RunInference(KerasHandler(self._options.embed, self._options.block_rows))
            # (part, (block, bytes)): one a block.
            | "Part" >> beam.Map(lambda block: (parts[block[0]], block))
            # (part, its blocks): one a part; vectors alone are shuffled.
            | "GroupByPart" >> beam.GroupByKey()
            # dict: one a part.
            | "WritePart" >> beam.Map(_write, self._folder)
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
            yield Pixels(number, block.rows["item_id"].to_pylist(), block.rows["valid_from"].to_pylist(), values)


def load_encoder(options: EmbedOptions) -> Any:
    """The model from images to vectors. Raises ConfigError where there is none, or the layer is not in it."""
    import keras

    path = options.model
    if path is None:
        raise ConfigError("the encoder must be a .keras file, got none; set images.embed.model, or --model FILE")
    try:
        with tempfile.TemporaryDirectory() as folder:
            # Keras reads local files alone.
            file = Path(folder) / "model.keras"
            fs, inside = fsspec.core.url_to_fs(path)
            file.write_bytes(fs.cat_file(inside))
            model = keras.saving.load_model(file, compile=False)
    except Exception as error:  # a damaged file is met by zipfile, json, h5py and Keras, each with errors of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"images.embed.model must be a .keras file, {path} cannot be loaded: {reason}") from None
    if options.layer is None:
        return model
    names = [layer.name for layer in model.layers]
    if options.layer not in names:
        raise ConfigError(f"images.embed.layer must be a layer of the model, got {options.layer!r}; it has {names}")
    try:
        return keras.Model(model.input, model.get_layer(options.layer).output)
    except (AttributeError, ValueError) as error:
        raise ConfigError(
            f"images.embed.layer must be a layer of a functional or sequential model, {path} is none "
            f"({str(error).splitlines()[0]}); remove images.embed.layer, or save the model up to that layer"
        ) from None


def vector_length(model: Any, options: ImageOptions) -> int:
    """Numbers of a vector. Raises ConfigError where the model does not take these images, or gives no vectors."""
    wanted = (options.height, options.width, options.channels)
    shape = getattr(model, "input_shape", None)
    taken = tuple(shape[1:]) if isinstance(shape, tuple) else None
    fits = taken is not None and len(taken) == 3
    if not fits or any(size not in (None, want) for size, want in zip(taken or (), wanted, strict=True)):
        raise ConfigError(
            f"images must have the height, width and channels that the model takes, {taken}, got {wanted}; set "
            "images.height, images.width and images.channels"
        )
    given = tuple(model.compute_output_shape((1, *wanted)))
    if len(given) != 2:
        raise ConfigError(
            f"the encoder's output must be a vector an image, got shape {given}; name a layer that gives one "
            "(images.embed.layer), such as its global pooling"
        )
    return int(given[1])


def part_name(number: int) -> str:
    """Path of a part, relative to its dataset."""
    return f"vectors/part-{number:05d}.parquet"


def _rows(block: Pixels, vectors: NDArray[np.float32]) -> bytes:
    schema = arrow_schema(CONTENT_VECTORS)
    table = pa.table([block.ids, block.valid_from, list(vectors)], schema=schema)
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, schema) as stream:
        stream.write_table(table)
    data: bytes = out.getvalue().to_pybytes()
    return data


def _write(element: tuple[int, Iterable[tuple[int, bytes]]], folder: str) -> dict[str, Any]:
    """Write one part: its blocks in their order."""
    number, blocks = element
    name = part_name(number)
    fs, path = fsspec.core.url_to_fs(posixpath.join(folder, name))
    fs.makedirs(posixpath.dirname(path), exist_ok=True)
    always = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal always
        for _, data in sorted(blocks):
            for batch in pa.ipc.open_stream(data).read_all().to_batches():
                always += batch.column("valid_from").to_pylist().count(TIME_MIN_US)
                yield batch

    rows = write_parquet(posixpath.join(folder, name), batches(), arrow_schema(CONTENT_VECTORS))
    return {"shard": describe_shard(folder, name, rows).model_dump(mode="json"), "always": always}
