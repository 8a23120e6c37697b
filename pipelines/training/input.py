"""Records to batches, by tf.data. What a batch is used for is left to the training loop.

A batch is (inputs, extras): `inputs` maps input name -> tensor (rows, length), int32 ids or float32 (NaN missing);
`extras` maps label, weight -> float32 (rows,) and event_time, user_key, item_key -> int64 (rows,), as far as there are.

Batch b of an epoch is a function of records, seed, epoch, b and the batch size. Processes share each batch: in process
order, their parts are its rows, and extras hold ROWS, how many all parts have. The last batch is short where rows are
left over, unless these are dropped.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.errors import ConfigError, InputError
from pipelines.records.reader import check_share, read_split, split_entry
from pipelines.storage import Dataset
from pipelines.training.distribution import ROWS
from pipelines.training.rounds import Rounds, has_rounds
from pipelines.training.stream import WORKERS, Stream, lanes_of, open_stream
from schemas.records import HEADER
from schemas.to_tf import feature_spec

EXTRAS = tuple(column.name for column in HEADER if column.name != "example_id")
MEMORY_BYTES = 1 << 30
"""A split whose shards are smaller than this is held in memory, and shuffled as a whole."""


@dataclass(frozen=True)
class Input:
    """One split, opened for any number of epochs."""

    records: Dataset
    split: str
    batch_size: int
    """Rows of a batch, those of all processes together."""
    seed: int
    shuffle: bool
    drop_remainder: bool
    deterministic: bool
    process_index: int
    num_processes: int
    held: Any = None
    """(inputs, extras) of the whole split as tensors; None where it is streamed."""
    stream: Stream | None = None

    @property
    def rows(self) -> int:
        """Examples of the split, for all processes."""
        return self.records.manifest.tables[self.split].rows

    @property
    def steps(self) -> int:
        """Batches of an epoch: as many for every process."""
        return self.rows // self.batch_size if self.drop_remainder else -(-self.rows // self.batch_size)

    def epoch(self, number: int, start_step: int = 0) -> Any:
        """The tf.data.Dataset of one epoch, from batch `start_step`: the batches that a whole epoch has from there on.

        Of a streamed split whole windows before it are skipped; where records have no one
        layout, the rows before it are read and not parsed. Raises InputError where the epoch has no such place.
        """
        if not 0 <= start_step <= self.steps or (start_step and not self.deterministic):
            raise InputError(
                f"`start_step` must be from 0 to {self.steps}, the batches of an epoch, and 0 where `deterministic` is "
                f"False, got {start_step}; resume with the records, batch size and processes that were saved with it"
            )
        seed = _epoch_seed(self.seed, number)
        batches = self._held(seed, start_step) if self.stream is None else self._streamed(self.stream, seed, start_step)
        options = tf.data.Options()
        # Tuning by itself, tf.data may starve its own threads and sleep until the tuner looks again, 5 s into an epoch.
        options.autotune.enabled = False
        options.deterministic = self.deterministic
        steps = self.steps - start_step
        if self.num_processes > 1:
            batches = batches.enumerate(start_step).map(self._told)
        return batches.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2).with_options(options)

    def example_ids(self, number: int, step: int) -> list[str]:
        """The ids of the examples in batch `step` of an epoch, read anew: batches themselves do not carry them."""
        seed = _epoch_seed(self.seed, number)
        if self.stream is None:
            ids = read_split(self.records, self.split, ["example_id"])["example_id"]
            share = self._shared(self._order(seed, step).batch(self.batch_size, drop_remainder=self.drop_remainder))
            found = [ids[place] for place in next(iter(share)).numpy()]
        elif (rounds := self._rounds(self.stream, seed)) is not None:
            batch = tf.data.Dataset.from_tensors(rounds.example_ids(step))
            found = next(iter(batch if self.shuffle else self._shared(batch))).numpy()
        else:
            spec = {"example_id": tf.io.FixedLenFeature((), tf.string)}
            batch = next(iter(self._serialized(self.stream, seed).skip(step)))
            found = tf.io.parse_example(batch, spec)["example_id"].numpy().tolist()
        return [str(name, "utf-8") for name in found]

    def _told(self, step: Any, batch: Any) -> Any:
        """A part of a batch, with how many rows all parts have."""
        inputs, extras = batch
        return inputs, {**extras, ROWS: tf.minimum(self.rows - step * self.batch_size, self.batch_size)}

    def _held(self, seed: int, start_step: int) -> Any:
        left = self._order(seed, start_step)
        batches = self._shared(left.batch(self.batch_size, drop_remainder=self.drop_remainder))
        return batches.map(
            lambda rows: tf.nest.map_structure(lambda values: tf.gather(values, rows), self.held),
            num_parallel_calls=WORKERS,
        )

    def _order(self, seed: int, start_step: int) -> Any:
        """The rows of a held split in an epoch's order, from batch `start_step` on."""
        order = np.random.default_rng(seed).permutation(self.rows) if self.shuffle else np.arange(self.rows)
        return tf.data.Dataset.from_tensor_slices(order[start_step * self.batch_size :])

    def _serialized(self, stream: Stream, seed: int) -> Any:
        """Batches of this process's records, not yet parsed."""
        if not self.shuffle:
            return self._shared(stream.in_order(self.batch_size, self.drop_remainder))
        lanes, of_lanes = lanes_of(self.batch_size, self.process_index, self.num_processes)
        return stream.shuffled(self.batch_size, self.drop_remainder, seed, lanes, of_lanes)

    def _rounds(self, stream: Stream, seed: int) -> Rounds | None:
        """An epoch of records whose places are known, if they are."""
        columns = self.records.manifest.tables[self.split].columns
        if not has_rounds(columns, stream):
            return None
        lanes, of_lanes = range(1), 1
        if self.shuffle:
            lanes, of_lanes = lanes_of(self.batch_size, self.process_index, self.num_processes)
        return Rounds(stream, columns, self.batch_size, self.steps, lanes, of_lanes, seed if self.shuffle else None)

    def _streamed(self, stream: Stream, seed: int, start_step: int) -> Any:
        if (rounds := self._rounds(stream, seed)) is not None:
            batches = rounds.batches(start_step)
            return (batches if self.shuffle else self._shared(batches)).map(_split)
        spec = feature_spec(self.records.manifest.tables[self.split].columns)
        return (
            self._serialized(stream, seed)
            .skip(start_step)
            .map(lambda batch: _split(tf.io.parse_example(batch, spec)), num_parallel_calls=WORKERS)
        )

    def _shared(self, batches: Any) -> Any:
        """This process's part of each batch: its rows, divided in order as evenly as can be."""
        if self.num_processes == 1:
            return batches
        index, of = self.process_index, self.num_processes

        def part(values: Any) -> Any:
            size = values.shape[0] or tf.shape(values)[0]
            return values[index * size // of : (index + 1) * size // of]

        return batches.map(lambda batch: tf.nest.map_structure(part, batch))


def open_input(
    records: Dataset,
    split: str,
    batch_size: int,
    *,
    seed: int,
    shuffle: bool,
    drop_remainder: bool = False,
    memory_bytes: int = MEMORY_BYTES,
    deterministic: bool = True,
    process_index: int = 0,
    num_processes: int = 1,
) -> Input:
    """Open a split of a `records` dataset for one of `num_processes`. The same seed gives the same batches.

    A split of less than `memory_bytes` is read here, through fsspec, and held; a larger one, or one with lists of any
    length or missing values, is verified here and streamed from its files at every epoch.
    `deterministic=False` lets batches come in the order in which they are ready. Raises CorruptDatasetError where a
    shard is not what the manifest says, ConfigError where processes cannot share batches of this size.
    """
    check_share(process_index, num_processes)
    if batch_size % num_processes:
        raise ConfigError(
            f"`batch_size` must be a multiple of the processes that share a batch, got {batch_size} and "
            f"{num_processes}; set training.batch_size"
        )
    opened = Input(
        records, split, batch_size, seed, shuffle, drop_remainder, deterministic, process_index, num_processes
    )
    entry = split_entry(records, split)
    # Values of many lengths, and missing ones, are no tensors of numpy: they are for TensorFlow to parse.
    regular = not any(c.nullable or (c.type.startswith("list") and not c.length) for c in entry.columns)
    if regular and sum(shard.bytes for shard in entry.shards) < memory_bytes:
        with tf.device("CPU"):
            columns = read_split(records, split)
            held = _split({name: tf.constant(v) for name, v in columns.items() if name != "example_id"})
        return replace(opened, held=held)
    if shuffle:
        lanes_of(batch_size, process_index, num_processes)
    return replace(opened, stream=open_stream(records, split))


@contextmanager
def damage_named(*inputs: Input) -> Iterator[None]:
    """Within, what TensorFlow cannot read of a streamed split is a CorruptDatasetError that names the shard."""
    try:
        yield
    except (
        tf.errors.DataLossError,
        tf.errors.NotFoundError,
        tf.errors.InvalidArgumentError,
        tf.errors.UnknownError,  # an OSError of `rounds`
    ):
        for opened in inputs:
            if opened.stream is not None:
                opened.stream.verify()
        raise


def _split(features: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parsed features to (inputs, extras)."""
    inputs = {
        name: tf.cast(value, tf.int32) if value.dtype == tf.int64 else value
        for name, value in features.items()
        if name not in EXTRAS and name != "example_id"
    }
    return inputs, {name: features[name] for name in EXTRAS if name in features}


def _epoch_seed(seed: int, number: int) -> int:
    """A 63-bit seed of one epoch."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/epoch/{number}".encode(), digest_size=8).digest()) >> 1
