"""A split that is too large to hold: batches of serialized records from its files, by tf.data. Parsing is `input`'s,
and records that all have one byte layout are `rounds`'s.

An epoch in order is the shards one after the other. A shuffled one is cut into lanes: equal parts of the rows of its
reshuffled shards, which are read side by side. Each lane shuffles within a window, and every batch takes as many rows
of each lane. Processes divide the lanes, so that together they make the batches that one process would make.

Every shuffle is drawn from the epoch's seed alone; tf.data's own would depend on TensorFlow's global seed too.
"""

import atexit
import math
import os
import posixpath
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import tensorflow as tf
from fsspec.implementations.local import LocalFileSystem

from pipelines.errors import ConfigError
from pipelines.records.reader import sized_shards, verify_shard
from pipelines.storage import Dataset
from schemas.manifest import Shard

LANES = 8
"""Lanes of a shuffled epoch, where a batch can be divided by it."""
SHUFFLE_ROWS = 65_536
"""Rows of the windows of all lanes."""
WORKERS = min(os.cpu_count() or 1, 8)
"""Blocks made at once. Their order does not depend on it."""


@dataclass(frozen=True)
class Stream:
    """The files of a split, on this machine and verified."""

    records: Dataset
    shards: tuple[tuple[str, Shard], ...]
    paths: tuple[str, ...]
    """Where TensorFlow reads each shard."""
    spare: list[Any] = field(default_factory=list)
    """Memory that rounds have read into, for the next ones."""

    def verify(self) -> None:
        """Check size and SHA-256 of every file. Raises CorruptDatasetError naming the first bad shard."""
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda at, here: verify_shard(self.records, at[0], at[1], here), self.shards, self.paths))

    def in_order(self, batch_size: int, drop_remainder: bool) -> Any:
        """Batches (rows,) of serialized records in the records' own order."""
        return self._records(self._paths()).batch(batch_size, drop_remainder=drop_remainder)

    def shuffled(self, batch_size: int, drop_remainder: bool, seed: int, lanes: range, of_lanes: int) -> Any:
        """The rows that `lanes` have of each batch of an epoch, (rows,) serialized records."""
        block = batch_size // of_lanes
        window = max(SHUFFLE_ROWS // batch_size, 1) * block
        spans, paths = self._lanes(seed, of_lanes, block)

        def blocks(span: Any) -> Any:
            # Not by tf.unstack: tf.data's optimizer crashes where a count is one of several outputs of an operation.
            number, first, last, skip, size, lack = (span[place] for place in range(6))
            padding = tf.data.Dataset.from_tensors("").repeat(lack)
            records = self._records(paths[first:last]).skip(skip).take(size).concatenate(padding)

            def mixed(place: Any, rows: Any) -> Any:
                places = place * window + tf.range(tf.size(rows, tf.int64))
                draws = tf.random.stateless_uniform(tf.shape(rows), tf.stack([seed + number, place]), alg="philox")
                # Padding stays at the end, so that only the last batch is short.
                order = tf.argsort(tf.where(places < size, draws, 1.0), stable=True)
                return tf.reshape(tf.gather(rows, order), [-1, block])

            # A lane's window fits a processor's cache, which tf.data's own shuffle, row by row, makes no use of.
            return records.batch(window).enumerate().map(mixed).unbatch()

        batches = (
            tf.data.Dataset.from_tensor_slices(spans[lanes.start : lanes.stop])
            .interleave(
                blocks,
                cycle_length=len(lanes),
                block_length=1,
                num_parallel_calls=min(len(lanes), WORKERS),
                deterministic=True,
            )
            .batch(len(lanes), drop_remainder=True)
        )
        full = sum(shard.rows for _, shard in self.shards) // batch_size
        if drop_remainder:
            return batches.take(full).map(lambda rows: tf.reshape(rows, [len(lanes) * block]))

        def joined(step: Any, rows: Any) -> Any:
            flat = tf.reshape(rows, [-1])
            return tf.cond(step < full, lambda: flat, lambda: tf.boolean_mask(flat, flat != ""))

        return batches.enumerate().map(joined)

    def _lanes(self, seed: int, of_lanes: int, block: int) -> tuple[Any, Any]:
        """Of each lane (number, first shard, last, rows to skip, rows, rows that its last block lacks); the paths."""
        order = np.random.default_rng(seed).permutation(len(self.paths))
        rows = np.array([shard.rows for _, shard in self.shards], np.int64)[order]
        starts = np.concatenate([[0], np.cumsum(rows)])
        bounds = np.arange(of_lanes + 1) * starts[-1] // of_lanes
        first = np.searchsorted(starts[1:], bounds[:-1], side="right")
        last = np.searchsorted(starts[:-1], bounds[1:], side="left")
        sizes = np.diff(bounds)
        lack = -(-sizes.max() // block) * block - sizes
        spans = np.stack([np.arange(of_lanes), first, last, bounds[:-1] - starts[first], sizes, lack], 1)
        return spans, self._paths(order)

    def _paths(self, order: Any = slice(None)) -> Any:
        return tf.constant(np.array(self.paths, object)[order], tf.string)

    def _records(self, paths: Any) -> Any:
        compressed = bool(self.paths) and self.paths[0].endswith(".gz")
        return tf.data.TFRecordDataset(paths, compression_type="GZIP" if compressed else "")


def lanes_of(batch_size: int, process_index: int, num_processes: int) -> tuple[range, int]:
    """The lanes of one process, and the number of all. Raises ConfigError where the processes cannot divide them."""
    lanes = math.gcd(batch_size, LANES)
    if lanes % num_processes:
        raise ConfigError(
            f"the processes of a streamed split must divide its {lanes} lanes, gcd(batch_size, {LANES}), "
            f"got {num_processes}; set another batch_size or number of processes, or memory_bytes so that it is held"
        )
    each = lanes // num_processes
    return range(process_index * each, (process_index + 1) * each), lanes


def open_stream(records: Dataset, split: str) -> Stream:
    """Verify every shard of a split, several at a time; those of an object store are first copied to this machine.

    The copies are removed when the process ends. Raises CorruptDatasetError naming a shard that is missing, short or
    altered.
    """
    shards = sized_shards(records, split)
    fs, _ = fsspec.core.url_to_fs(records.path)
    if isinstance(fs, LocalFileSystem):
        paths = [fs._strip_protocol(path) for path, _ in shards]
    else:
        folder = tempfile.mkdtemp(prefix="thaw-records-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        paths = [posixpath.join(folder, shard.path.replace("/", "-")) for _, shard in shards]
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda at, here: fs.get_file(at[0], here), shards, paths))
    stream = Stream(records, tuple(shards), tuple(paths))
    stream.verify()
    return stream
