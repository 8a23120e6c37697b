"""An epoch of records of one byte layout, streamed: batches of columns, by numpy, from the files.

Where every record has as many bytes, the rows of a lane's window lie at known places. A round is one window of each
lane: read, checked by its CRCs, decoded and shuffled as a whole, then cut into batches while the next ones are made.
Rows of several lengths are `stream`'s, which also says what lanes and windows are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.records.layout import Columns, is_fixed, layout
from pipelines.records.reader import Arrays
from pipelines.records.wire import decode
from pipelines.training import stream
from schemas.records import HEADER

AHEAD = 2
"""Rounds that are made at once. Their order does not depend on it."""
ROUND_BYTES = 1 << 27
"""Bytes of a round's records at most, for rows of thousands of numbers; a few times that is in memory."""
HEADER_NAMES = frozenset(column.name for column in HEADER)


@dataclass(frozen=True)
class Rounds:
    """What `lanes` have of every batch of an epoch."""

    files: stream.Stream
    columns: Columns
    batch_size: int
    steps: int
    """Batches of the epoch."""
    lanes: range
    of_lanes: int
    seed: int | None
    """Of this epoch; None leaves shards and rows in their order."""

    @property
    def steps_of_round(self) -> int:
        """Batches that a round makes."""
        rows = min(stream.SHUFFLE_ROWS, ROUND_BYTES // layout(self.columns).size)
        return max(rows // self.batch_size, 1)

    def batches(self, start: int) -> Any:
        """The tf.data.Dataset from batch `start` on: {name: (rows, …)}, without the example's id. Ids are int32."""
        size = self.batch_size // self.of_lanes * len(self.lanes)
        full = self.steps * self.batch_size <= sum(shard.rows for _, shard in self.files.shards)
        columns = [column for column in self.columns if column.name != "example_id"]
        kinds = [
            tf.float32 if "float32" in c.type else tf.int64 if c.name in HEADER_NAMES else tf.int32 for c in columns
        ]

        def made(number: Any) -> Any:
            arrays = tf.numpy_function(lambda at: self._tensors(at, columns, kinds), [number], kinds)
            for values, column in zip(arrays, columns, strict=True):
                values.set_shape((None, column.length) if column.type.startswith("list") else (None,))
            return number * self.steps_of_round, tuple(arrays)

        def cut(first: Any, arrays: Any) -> Any:
            def batch(step: Any) -> Any:
                here = [values[(step - first) * size : (step - first + 1) * size] for values in arrays]
                for values in here if full else ():
                    values.set_shape((size, *values.shape[1:]))
                return {column.name: values for column, values in zip(columns, here, strict=True)}

            last = tf.minimum(first + self.steps_of_round, self.steps)
            return tf.data.Dataset.range(tf.maximum(first, start), last).map(batch)

        numbers = tf.data.Dataset.range(start // self.steps_of_round, -(-self.steps // self.steps_of_round))
        return numbers.map(made, num_parallel_calls=AHEAD, deterministic=True).flat_map(cut)

    def example_ids(self, step: int) -> Any:
        """(rows,) bytes: the ids of batch `step`."""
        size = self.batch_size // self.of_lanes * len(self.lanes)
        number, place = divmod(step, self.steps_of_round)
        return self._round(number)["example_id"][place * size : (place + 1) * size]

    def _tensors(self, number: Any, columns: Any, kinds: Any) -> Any:
        arrays = self._round(int(number))
        return [arrays[c.name].astype(k.as_numpy_dtype, copy=False) for c, k in zip(columns, kinds, strict=True)]

    def _round(self, number: int) -> Arrays:
        """The columns of a round's rows, batch after batch, each lane after lane."""
        block = self.batch_size // self.of_lanes
        window = self.steps_of_round * block
        order = np.arange(len(self.files.shards))
        if self.seed is not None:
            order = np.random.default_rng(self.seed).permutation(order)
        starts = np.cumsum([0, *(self.files.shards[shard][1].rows for shard in order)])
        bounds = np.arange(self.of_lanes + 1) * starts[-1] // self.of_lanes
        spans: list[tuple[int, int]] = []
        places: list[Any] = []
        steps: list[Any] = []
        for lane in self.lanes:
            first = bounds[lane] + number * window
            last = max(min(first + window, bounds[lane + 1]), first)
            mixed = np.arange(last - first)
            if self.seed is not None:
                mixed = np.random.default_rng([self.seed, lane, number]).permutation(mixed)
            spans.append((first, last))
            places.append(sum(map(len, places)) + mixed)
            steps.append(np.arange(last - first) // block)
        # Stable, so that each batch has its lanes in order.
        rows = np.concatenate(places)[np.argsort(np.concatenate(steps).astype("u2"), kind="stable")]
        arrays = decode(self._read(order, starts, spans), self.columns)
        return {name: values[rows] for name, values in arrays.items()}

    def _read(self, order: Any, starts: Any, spans: Sequence[tuple[int, int]]) -> Any:
        """The bytes of rows from … to … of all shards in `order`, one span after the other.

        Raises ValueError where a file is short.
        """
        size = layout(self.columns).size
        raw = np.empty(sum(last - first for first, last in spans) * size, np.uint8)
        at = 0
        for first, last in spans:
            for shard, begin, end in zip(order, starts[:-1], starts[1:], strict=True):
                start, stop = max(first, begin), min(last, end)
                if start < stop:
                    here = raw.data[at : at + (stop - start) * size]
                    with Path(self.files.paths[shard]).open("rb") as file:
                        file.seek((start - begin) * size)
                        if file.readinto(here) != len(here):
                            raise ValueError(f"{self.files.paths[shard]} is short")
                    at += len(here)
        return raw


def has_rounds(columns: Columns, files: stream.Stream) -> bool:
    """Whether the place of every record follows from the columns."""
    # Strings are left to TensorFlow: numpy's would lose zeros at their end, which an image's bytes may have.
    regular = all(is_fixed(column) and (column.type != "string" or column.name == "example_id") for column in columns)
    return regular and not any(path.endswith(".gz") for path in files.paths)
