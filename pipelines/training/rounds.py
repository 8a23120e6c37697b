"""An epoch of records of one byte layout, streamed: batches of columns, by numpy, from the files.

Where every record has as many bytes, the rows of a lane's window lie at known places. A round is one window of each
lane: read, checked by its CRCs, decoded and shuffled as a whole, then cut into batches while the next ones are made.
Rows of several lengths are `stream`'s, which also says what lanes and windows are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.records.fixed import BLOCK_BYTES
from pipelines.records.layout import Columns, is_fixed, layout
from pipelines.records.wire import decode
from pipelines.training import stream
from schemas.manifest import ColumnEntry
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

    @property
    def rows_of_batch(self) -> int:
        """Rows that `lanes` have of a batch that is not the last."""
        return self.batch_size // self.of_lanes * len(self.lanes)

    def batches(self, start: int) -> Any:
        """The tf.data.Dataset from batch `start` on: {name: (rows, …)}, without the example's id. Ids are int32."""
        size, types = self.rows_of_batch, self._types()
        full = self.steps * self.batch_size <= sum(shard.rows for _, shard in self.files.shards)

        def made(number: Any) -> Any:
            packed = tf.numpy_function(lambda at: self._packed(int(at)), [number], [tf.as_dtype(t) for t in types])
            for values in packed:
                values.set_shape((None,))
            return number * self.steps_of_round, tuple(packed)

        def cut(first: Any, packed: Any) -> Any:
            def batch(step: Any) -> Any:
                found = {}
                for columns, values in zip(types.values(), packed, strict=True):
                    widths = [max(column.length, 1) for column in columns]
                    here = values[(step - first) * size * sum(widths) : (step - first + 1) * size * sum(widths)]
                    rows = size if full else tf.size(here) // sum(widths)
                    parts = tf.split(here, [width * rows for width in widths], num=len(widths))
                    for column, part in zip(columns, parts, strict=True):
                        listed = column.type.startswith("list")
                        found[column.name] = tf.reshape(part, (rows, column.length) if listed else (rows,))
                return {column.name: found[column.name] for column in self.columns if column.name in found}

            last = tf.minimum(first + self.steps_of_round, self.steps)
            return tf.data.Dataset.range(tf.maximum(first, start), last).map(batch)

        numbers = tf.data.Dataset.range(start // self.steps_of_round, -(-self.steps // self.steps_of_round))
        return numbers.map(made, num_parallel_calls=AHEAD, deterministic=True).flat_map(cut)

    def example_ids(self, step: int) -> Any:
        """(rows,) bytes: the ids of batch `step`."""
        number, place = divmod(step, self.steps_of_round)
        with self._records(number) as (records, rows):
            here = rows[place * self.rows_of_batch : (place + 1) * self.rows_of_batch]
            return decode(records[here].reshape(-1), self.columns)["example_id"]

    def _types(self) -> dict[str, list[ColumnEntry]]:
        """Columns by the type that they have in a batch."""
        found: dict[str, list[ColumnEntry]] = {}
        for column in self.columns:
            if column.name != "example_id":
                wide = "int64" if column.name in HEADER_NAMES else "int32"
                found.setdefault("float32" if "float32" in column.type else wide, []).append(column)
        return found

    def _packed(self, number: int) -> list[Any]:
        """A round's values, an array a type: batch after batch, and in each column after column.

        Few and large arrays, because TensorFlow takes a while over each.
        """
        types, size = self._types(), self.rows_of_batch
        with self._records(number) as (records, rows):
            step = max(BLOCK_BYTES // records.shape[1], 1)
            widths = {type_: sum(max(column.length, 1) for column in types[type_]) for type_ in types}
            packed = {type_: _aligned(len(rows) * width, type_) for type_, width in widths.items()}
            # Rows are put in order before they are decoded: one copy of each, and what follows fits the cache.
            for start in range(0, len(rows), step):
                end = min(start + step, len(rows))
                values = decode(records[rows[start:end]].reshape(-1), self.columns)
                for batch in range(start // size, -(-end // size)):
                    first, last = batch * size, min((batch + 1) * size, len(rows))
                    low, high = max(start, first), min(end, last)
                    for type_, columns in types.items():
                        at = first * widths[type_]
                        for column in columns:
                            width = max(column.length, 1)
                            here = packed[type_][at : at + (last - first) * width]
                            here[(low - first) * width : (high - first) * width] = values[column.name][
                                low - start : high - start
                            ].reshape(-1)
                            at += (last - first) * width
        return list(packed.values())

    @contextmanager
    def _records(self, number: int) -> Iterator[tuple[Any, Any]]:
        """A round's records as they are read (rows, bytes of one), and their places batch after batch, lane after lane.

        Within; after that the next round is read into their memory: fresh memory has to be cleared first, which takes
        longer than to read.
        """
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
        size = layout(self.columns).size
        needed = len(rows) * size
        try:
            memory = self.files.spare.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        if len(memory) < needed:
            memory = np.empty(needed, np.uint8)
        try:
            self._read(memory[:needed], order, starts, spans)
            yield memory[:needed].reshape(-1, size), rows
        finally:
            self.files.spare.append(memory)

    def _read(self, raw: Any, order: Any, starts: Any, spans: Sequence[tuple[int, int]]) -> None:
        """Into `raw` the bytes of rows from … to … of all shards in `order`, one span after the other.

        Raises ValueError where a file is short.
        """
        size = layout(self.columns).size
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


def _aligned(count: int, type_: str) -> Any:
    """Memory that TensorFlow takes over as it is: what does not begin at a multiple of 64 bytes, it copies."""
    size = count * np.dtype(type_).itemsize
    memory = np.empty(size + 63, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + size].view(type_)


def has_rounds(columns: Columns, files: stream.Stream) -> bool:
    """Whether the place of every record follows from the columns."""
    # Strings are left to TensorFlow: numpy's would lose zeros at their end, which an image's bytes may have.
    regular = all(is_fixed(column) and (column.type != "string" or column.name == "example_id") for column in columns)
    return regular and not any(path.endswith(".gz") for path in files.paths)
