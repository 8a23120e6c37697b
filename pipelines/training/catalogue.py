"""Batches with items drawn uniformly from the records' catalogue, for losses that set every positive against them.

A drawn item has the statistics of its own moment, which may lie after the row's; that it existed by then is for the
losses to check. Times go to the losses in minutes, which JAX's integers can hold.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipelines.config import LossOptions
from pipelines.errors import InputError
from pipelines.models.blocks import derived_seed
from pipelines.records.reader import read_split
from pipelines.storage import Dataset
from pipelines.training.factors import WithFactors
from pipelines.training.input import Input
from pipelines.training.objective import DRAWN
from schemas.records import CATALOGUE, CATALOGUE_HEADER

MINUTE_US = 60_000_000


@dataclass(frozen=True)
class WithCatalogue:
    """An input whose batches also hold `draws` items of the catalogue, the same for all processes of a batch."""

    rows_of: Input | WithFactors
    draws: int
    seed: int
    size: int
    """Rows of the catalogue."""
    held: Any
    """(inputs, extras) of the whole catalogue as tensors."""

    def example_ids(self, number: int, step: int) -> list[str]:
        """As `Input.example_ids`."""
        return self.rows_of.example_ids(number, step)

    def epoch(self, number: int, start_step: int = 0) -> Any:
        """As `Input.epoch`. What a step draws follows from seed, epoch and step."""
        seed = derived_seed(self.seed, "catalogue", str(number))

        def attach(step: Any, batch: Any) -> Any:
            inputs, extras = batch
            rows = tf.random.stateless_uniform((self.draws,), [seed, step], 0, self.size, tf.int64)
            drawn_inputs, drawn = tf.nest.map_structure(lambda values: tf.gather(values, rows), self.held)
            minute = tf.cast(tf.math.floordiv(extras["event_time"], MINUTE_US), tf.int32)
            return {**inputs, DRAWN: drawn_inputs}, {**extras, "minute": minute, DRAWN: drawn}

        return self.rows_of.epoch(number, start_step).enumerate(start_step).map(attach).prefetch(2)


def with_catalogue(rows: Input | WithFactors, records: Dataset, options: LossOptions, seed: int) -> WithCatalogue:
    """`rows` with `catalogue_negatives` items a step. Raises InputError where the records have no catalogue."""
    columns = read_catalogue(records)
    with tf.device("CPU"):
        inputs = {
            name: tf.constant(values.astype("int32") if values.dtype == np.int64 else values)
            for name, values in columns.items()
            if name not in {column.name for column in CATALOGUE_HEADER}
        }
        # Rounded up: an item that came within a row's minute may have come after it.
        exists = -(-columns["exists_from"] // MINUTE_US)
        extras = {
            "item_key": tf.constant(columns["item_key"]),
            "exists_from": tf.constant(np.clip(exists, -(2**31), 2**31 - 1).astype("int32")),
        }
    size = len(columns["item_key"])
    return WithCatalogue(rows, options.catalogue_negatives, seed, size, (inputs, extras))


def read_catalogue(records: Dataset) -> dict[str, NDArray[Any]]:
    """All columns of the catalogue. Raises InputError where the records have none, or an empty one."""
    entry = records.manifest.tables.get(CATALOGUE)
    if entry is None or not entry.rows:
        raise InputError(
            f"training.losses.catalogue_negatives needs records with a catalogue, got "
            f"{'none' if entry is None else 'an empty one'}; set catalogue.rows and run `thaw build_examples` again"
        )
    return read_split(records, CATALOGUE)
