"""Records to batches, by tf.data. What a batch is used for is left to the training loop.

A batch is (inputs, extras): `inputs` maps input name -> tensor (rows, length), int32 ids or float32 (NaN missing);
`extras` maps label, weight -> float32 (rows,) and event_time, user_key, item_key -> int64 (rows,).
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.records.reader import read_split
from pipelines.storage import Dataset
from schemas.records import HEADER
from schemas.to_tf import feature_spec

EXTRAS = tuple(column.name for column in HEADER if column.name != "example_id")
SHUFFLE_ROWS = 65_536
"""Rows of the shuffle buffer, where a split is streamed."""
MEMORY_BYTES = 1 << 30
"""A split whose shards are smaller than this is held in memory, and shuffled as a whole."""
_WORKERS = min(os.cpu_count() or 1, 8)
"""Batches made at once. Their order does not depend on it."""


@dataclass(frozen=True)
class Input:
    """One split, opened for any number of epochs."""

    records: Dataset
    split: str
    batch_size: int
    seed: int
    shuffle: bool
    drop_remainder: bool
    held: Any = None
    """(inputs, extras) of the whole split as tensors; None where it is streamed."""

    @property
    def rows(self) -> int:
        """Examples of the split."""
        return self.records.manifest.tables[self.split].rows

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.rows // self.batch_size if self.drop_remainder else -(-self.rows // self.batch_size)

    def epoch(self, number: int) -> Any:
        """The tf.data.Dataset of one epoch: a pure function of records, seed and `number`, whatever ran before."""
        seed = _epoch_seed(self.seed, number)
        batches = self._streamed(seed) if self.held is None else self._gathered(seed)
        options = tf.data.Options()
        # Tuning by itself, tf.data may starve its own threads and sleep until the tuner looks again, 5 s into an epoch.
        options.autotune.enabled = False
        return batches.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(2).with_options(options)

    def _gathered(self, seed: int) -> Any:
        order = np.arange(self.rows)
        if self.shuffle:
            order = np.random.default_rng(seed).permutation(self.rows)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size, drop_remainder=self.drop_remainder)
        return batches.map(
            lambda rows: tf.nest.map_structure(lambda values: tf.gather(values, rows), self.held),
            num_parallel_calls=_WORKERS,
        )

    def _streamed(self, seed: int) -> Any:
        paths = self.records.table_paths(self.split)
        compression = "GZIP" if paths and paths[0].endswith(".gz") else ""
        files = tf.data.Dataset.from_tensor_slices(np.array(paths, dtype=object if paths else str))
        if self.shuffle:
            files = files.shuffle(max(len(paths), 1), seed=seed, reshuffle_each_iteration=False)
        open_at_once = 4 if self.shuffle else 1
        rows = files.interleave(
            lambda path: tf.data.TFRecordDataset(path, compression_type=compression),
            cycle_length=open_at_once,
            block_length=16,
            num_parallel_calls=min(open_at_once, _WORKERS),
            deterministic=True,
        )
        if self.shuffle:
            rows = rows.shuffle(SHUFFLE_ROWS, seed=seed, reshuffle_each_iteration=False)
        spec = feature_spec(self.records.manifest.tables[self.split].columns)
        return rows.batch(self.batch_size, drop_remainder=self.drop_remainder).map(
            lambda batch: _split(tf.io.parse_example(batch, spec)), num_parallel_calls=_WORKERS
        )


def open_input(
    records: Dataset,
    split: str,
    batch_size: int,
    *,
    seed: int,
    shuffle: bool,
    drop_remainder: bool = False,
    memory_bytes: int = MEMORY_BYTES,
) -> Input:
    """Open a split of a `records` dataset. Shuffled or not, the same seed gives the same batches.

    A split of less than `memory_bytes` is read here, through fsspec, and held; a larger one is streamed from its
    files by TensorFlow at every epoch. Raises CorruptDatasetError where a shard is not what the manifest says.
    """
    entry = records.manifest.tables[split]
    records.check_sizes()
    held = None
    if sum(shard.bytes for shard in entry.shards) < memory_bytes:
        with tf.device("CPU"):
            columns = read_split(records, split)
            held = _split({name: tf.constant(v) for name, v in columns.items() if name != "example_id"})
    return Input(records, split, batch_size, seed, shuffle, drop_remainder, held)


def _split(features: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parsed features to (inputs, extras)."""
    inputs = {
        name: tf.cast(value, tf.int32) if value.dtype == tf.int64 else value
        for name, value in features.items()
        if name not in EXTRAS and name != "example_id"
    }
    return inputs, {name: features[name] for name in EXTRAS}


def _epoch_seed(seed: int, number: int) -> int:
    """A 63-bit seed of one epoch."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/epoch/{number}".encode(), digest_size=8).digest()) >> 1
