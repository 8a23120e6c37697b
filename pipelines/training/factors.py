"""Batches with reference factors: as targets of the reconstruction loss, and as inputs of towers that read them.

The one rule of honesty: a vector is no input of a row whose label helped to fit it. Rows from the factors' time on may
read them; earlier rows may where no loss looks at labels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.config import Config
from pipelines.errors import ConfigError
from pipelines.losses.registry import weighted_losses
from pipelines.records.encode import id_keys
from pipelines.retrieval.factors import Factors
from pipelines.training.input import Input
from pipelines.training.stream import WORKERS
from schemas.content import Side


@dataclass(frozen=True)
class WithFactors:
    """An input whose batches also hold factors, found by the rows' keys.

    With `targets`, extras have `user_factor` and `item_factor` (rows, rank), NaN where there is none; with `inputs`, so
    have inputs, scaled, and NaN also before `since` (UTC microseconds).
    """

    rows_of: Input
    targets: bool
    inputs: bool
    since: int
    tables: dict[Side, tuple[Any, Any, Any]]
    """Sorted keys, their vectors, the same scaled."""

    @property
    def rows(self) -> int:
        """Examples of the split."""
        return self.rows_of.rows

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.rows_of.steps

    def epoch(self, number: int, start_step: int = 0) -> Any:
        """As `Input.epoch`."""
        return self.rows_of.epoch(number, start_step).map(self._attach, num_parallel_calls=WORKERS).prefetch(2)

    def example_ids(self, number: int, step: int) -> list[str]:
        """As `Input.example_ids`."""
        return self.rows_of.example_ids(number, step)

    def _attach(self, inputs: dict[str, Any], extras: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, extras = dict(inputs), dict(extras)
        nan = tf.constant(np.nan, tf.float32)
        for side, (keys, vectors, scaled) in self.tables.items():
            wanted = extras[f"{side}_key"]
            place = tf.minimum(tf.searchsorted(keys, wanted), len(keys) - 1)
            known = tf.gather(keys, place) == wanted
            if self.targets:
                extras[f"{side}_factor"] = tf.where(known[:, None], tf.gather(vectors, place), nan)
            if self.inputs:
                may = known & (extras["event_time"] >= self.since)
                inputs[f"{side}_factor"] = tf.where(may[:, None], tf.gather(scaled, place), nan)
        return inputs, extras


def with_factors(rows: Input, factors: Factors, config: Config) -> WithFactors:
    """`rows` with what the configuration asks of the factors.

    Raises ConfigError where no training row could read them.
    """
    since, training_end = factors.until, rows.records.manifest.as_of.get("validation_start", 2**63 - 1)
    if since > training_end:
        raise ConfigError(
            "reference factors must be fitted on the training period alone, these saw what came after it; "
            "run `thaw compute_factors` again"
        )
    if set(weighted_losses(config.training.losses)) == {"reconstruction"}:
        since = -(2**63)
    elif config.model.factors and since >= training_end:
        raise ConfigError(
            "model.factors must give training rows something to read, but the factors were fitted on the whole "
            "training period, and a vector is no input of a row whose label helped to fit it; set factors.until to "
            "an earlier time, or train by reconstruction alone (conf/train/reconstruction.yaml)"
        )
    tables = {}
    with tf.device("CPU"):
        for side, ids in factors.ids.items():
            keys = id_keys(ids, rows.records.manifest.seed, side)
            order = np.argsort(keys)
            vectors = factors.vectors[side][order]
            tables[side] = tuple(map(tf.constant, (keys[order], vectors, factors.scaled(side, vectors))))
    return WithFactors(rows, config.training.losses.reconstruction > 0, config.model.factors, since, tables)
