"""Image records to labelled images: held in memory, or streamed from disk where a split is too large to hold.

A batch is (images uint8 (n, h, w, c), labels int64 (n,)), a function of records, seed, epoch and batch size. All
batches have one size, so that a step is compiled once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.errors import InputError
from pipelines.models.blocks import derived_seed
from pipelines.records.reader import Arrays, read_shards, split_entry
from pipelines.storage import Dataset

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Shape = tuple[int, int, int]

MEMORY_BYTES = 4 << 30
"""A split whose records are smaller than this is held in memory."""


class Batches(Protocol):
    """The batches of a split, for any number of epochs."""

    @property
    def steps(self) -> int:
        """Batches of an epoch."""

    def epoch(self, number: int, start_step: int = 0) -> Iterator[tuple[Any, Any]]:
        """Those of epoch 1, 2, …, from batch `start_step` on."""

    def example_ids(self, number: int, step: int) -> list[str]:
        """The ids of the rows of batch `step`, from 0."""


@dataclass(frozen=True)
class LabelledImages:
    """Images in memory."""

    ids: tuple[str, ...]
    images: Images
    """(rows, height, width, channels)."""
    labels: Labels
    """Class numbers (rows,)."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.labels)

    @property
    def inputs(self) -> Shape:
        """Height, width and channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def take(self, rows: npt.NDArray[Any]) -> "LabelledImages":
        """Some of them, by place or mask."""
        places = np.arange(self.rows)[rows]
        return LabelledImages(tuple(self.ids[place] for place in places), self.images[places], self.labels[places])

    def pieces(self) -> Iterator["LabelledImages"]:
        """All of them, in order."""
        yield self

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Shuffled batches."""
        return HeldBatches(self.ids, self.images, self.labels, min(batch_size, self.rows), seed)


@dataclass(frozen=True)
class HeldBatches:
    """Batches of rows in memory. The last one of an epoch is filled up with rows of its first."""

    ids: tuple[str, ...]
    inputs: Any
    """An array, or arrays by name."""
    labels: Labels
    batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, number: int, start_step: int = 0) -> Iterator[tuple[Any, Labels]]:
        """Those of epoch 1, 2, …, from batch `start_step` on."""
        for places in self._places(number)[start_step:]:
            named = isinstance(self.inputs, dict)
            inputs = {name: a[places] for name, a in self.inputs.items()} if named else self.inputs[places]
            yield inputs, self.labels[places]

    def example_ids(self, number: int, step: int) -> list[str]:
        """The ids of the rows of batch `step`, from 0."""
        return [self.ids[place] for place in self._places(number)[step]]

    def _places(self, number: int) -> npt.NDArray[np.int64]:
        """(steps, batch_size) rows."""
        order = np.random.default_rng(derived_seed(self.seed, "epoch", str(number))).permutation(len(self.labels))
        return np.resize(order, (self.steps, self.batch_size))


@dataclass(frozen=True)
class StreamedImages:
    """Images on disk, read anew at every epoch."""

    records: Dataset
    split: str
    inputs: Shape
    """Height, width and channels."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return split_entry(self.records, self.split).rows

    def pieces(self) -> Iterator[LabelledImages]:
        """All of them, in order, a shard at a time."""
        for arrays in read_shards(self.records, self.split):
            yield _labelled(arrays, self.inputs)

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Shuffled batches. Raises InputError where there is not even one."""
        from pipelines.training.input import open_input

        if self.rows < batch_size:
            raise InputError(
                f"a streamed split must have at least a batch of images, {self.split} has {self.rows}; set "
                "classifier.batch_size to fewer"
            )
        return _Streamed(
            open_input(
                self.records, self.split, batch_size, seed=seed, shuffle=True, drop_remainder=True, memory_bytes=0
            ),
            self.inputs,
        )


@dataclass(frozen=True)
class _Streamed:
    """Batches of an `Input`; rows that are left over are dropped, others in each epoch."""

    opened: Any
    shape: Shape

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return int(self.opened.steps)

    def epoch(self, number: int, start_step: int = 0) -> Iterator[tuple[Any, Any]]:
        """Those of epoch 1, 2, …, from batch `start_step` on, as TensorFlow's tensors.

        Raises CorruptDatasetError naming a damaged shard.
        """
        import tensorflow as tf

        from pipelines.training.input import damage_named

        shape = (self.opened.batch_size, *self.shape)

        def pixels(inputs: Any, extras: Any) -> Any:
            return tf.reshape(tf.io.decode_raw(inputs["image"], tf.uint8), shape), extras["label"]

        with damage_named(self.opened):
            yield from self.opened.epoch(number - 1, start_step).map(pixels)

    def example_ids(self, number: int, step: int) -> list[str]:
        """The ids of the images of batch `step`, from 0, read anew."""
        ids: list[str] = self.opened.example_ids(number - 1, step)
        return ids


def read_images(records: Dataset, split: str, most: int | None = None) -> LabelledImages:
    """A split in memory, or its first `most` images, which are a sample since records are shuffled.

    Shards behind them are not read. Raises CorruptDatasetError where a shard is not what the manifest says.
    """
    shape, rows = image_shape(records), split_entry(records, split).rows
    rows = rows if most is None else min(most, rows)
    # One array that is filled: pieces and what they are put together to would take twice the room.
    images, labels = np.empty((rows, *shape), np.uint8), np.empty(rows, np.int64)
    ids: list[str] = []
    shards = read_shards(records, split)
    while len(ids) < rows:
        piece, start = _labelled(next(shards), shape), len(ids)
        ids += piece.ids[: rows - start]
        images[start : len(ids)] = piece.images[: rows - start]
        labels[start : len(ids)] = piece.labels[: rows - start]
    return LabelledImages(tuple(ids), images, labels)


def open_images(records: Dataset, split: str, memory_bytes: int = MEMORY_BYTES) -> LabelledImages | StreamedImages:
    """A split, in memory where its records are smaller than `memory_bytes`."""
    if sum(shard.bytes for shard in split_entry(records, split).shards) < memory_bytes:
        return read_images(records, split)
    return StreamedImages(records, split, image_shape(records))


def image_shape(records: Dataset) -> Shape:
    """Height, width and channels of a dataset of image records."""
    shape = records.manifest.facts["image"]
    return shape["height"], shape["width"], shape["channels"]


def check_labels(ids: Sequence[str], labels: Labels, classes: Sequence[str]) -> None:
    """Raises InputError, naming a row, where a label is not the number of a class."""
    odd = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(odd):
        raise InputError(
            f"a label must be from 0 to {len(classes) - 1}, a class's number, {ids[odd[0]]} has {labels[odd[0]]} "
            f"({len(odd):,} of {len(labels):,} rows are out of range); write the records again, or correct the labels"
        )


def mean_image(rows: LabelledImages | StreamedImages) -> npt.NDArray[np.float32]:
    """(h, w, c): what is taken off each image before a linear classifier sees it. Whole numbers are summed: exact."""
    total = sum(piece.images.sum(axis=0, dtype=np.int64) for piece in rows.pieces())
    return (np.asarray(total) / rows.rows).astype(np.float32)


def _labelled(arrays: Arrays, shape: Shape) -> LabelledImages:
    raw, rows = arrays["image"], len(arrays["label"])
    # Objects where an image ends in a zero byte, which numpy's own type for bytes would lose.
    pixels = np.frombuffer(b"".join(raw), np.uint8) if raw.dtype == object else np.ascontiguousarray(raw).view(np.uint8)
    ids = tuple(name.decode() for name in arrays["example_id"].tolist())
    return LabelledImages(ids, pixels.reshape(rows, *shape), arrays["label"].astype(np.int64))
