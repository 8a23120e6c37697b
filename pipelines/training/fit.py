"""Fitting a two-tower model: Adam, early stopping, the best epoch's weights, one record per epoch.

What a batch holds is `objective`'s; where batches come from, `input`'s. Equal seed, data and machine kind: equal
weights, to the bit, on a CPU.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np

from pipelines.config import TrainingOptions
from pipelines.errors import InputError
from pipelines.models.blocks import derived_seed
from pipelines.training.facts import Facts
from pipelines.training.objective import Objective
from pipelines.training.progress import Progress

MONITOR = "validation_loss"
"""What decides on the best epoch. The summed loss ranks each positive against mined items, as the evaluation ranks the
catalogue; the AUC over all rows mostly tells users and moments with many positives from those with few."""
_RATE_BATCHES = 32


class Rows(Protocol):
    """A split's rows, in batches of (inputs, extras)."""

    def epoch(self, number: int) -> Any:
        """The tf.data.Dataset of epoch 0, 1, …"""


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows."""

    number: int
    """1, 2, …"""
    metrics: dict[str, float]
    """`loss`, each loss part, and with validation rows `validation_loss`, its parts and, where there are both labels,
    `validation_auc`."""
    examples_per_s: float


@dataclass(frozen=True)
class History:
    """What came of a fit."""

    epochs: tuple[Epoch, ...]
    best_epoch: int
    """The epoch, from 1, whose weights the model has now."""

    def to_json(self) -> dict[str, Any]:
        """What is equal for equal runs: no speeds."""
        return {
            "best_epoch": self.best_epoch,
            "monitor": MONITOR,
            "epochs": [{"epoch": epoch.number, **epoch.metrics} for epoch in self.epochs],
        }


def fit(
    model: Any,
    train: Rows,
    validation: Rows | None,
    options: TrainingOptions,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None = None,
    facts: Facts | None = None,
    warm: bool = False,
) -> History:
    """Train `model` in place until `patience` epochs bring nothing better; it is left with the best epoch's weights.

    `warm`: its weights were trained before, the bias with them.
    Without validation rows every epoch is run and the last one kept. Raises InputError where no training row has a
    weight, and where a loss stops being finite.
    """
    make_deterministic(seed)
    if not warm and options.losses.pointwise > 0:
        model.bias.assign(logit(base_rate(train.epoch(0))))
    objective = Objective(model, options.losses, seed=derived_seed(seed, "objective"), facts=facts)
    # Determinism rules out XLA on TensorFlow; said here so that no backend decides by itself.
    objective.compile(optimizer=keras.optimizers.Adam(options.learning_rate), jit_compile=False)
    progress = Progress(options.epochs)
    epochs: list[Epoch] = []
    best = _Best()
    for number in range(1, options.epochs + 1):
        progress.epoch = number
        model.at((number - 1) / max(options.epochs - 1, 1))
        epoch = _run_epoch(objective, number, train, validation, progress)
        epochs.append(epoch)
        progress.line(_line(epoch, options.epochs))
        if on_epoch:
            on_epoch(epoch)
        # Without validation the newest counts as the best.
        monitored = epoch.metrics[MONITOR] if validation is not None else -number
        if monitored < best.value:
            best = _Best(monitored, number, model.get_weights())
        elif number - best.epoch >= max(options.patience, 1):
            break
    model.set_weights(best.weights)
    return History(tuple(epochs), best.epoch)


def make_deterministic(seed: int) -> None:
    """Seed every generator and ask the backend for the same result every time. Holds for the whole process."""
    keras.utils.set_random_seed(derived_seed(seed, "fit"))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


@dataclass(frozen=True)
class _Best:
    value: float = math.inf
    epoch: int = 0
    weights: Any = None


def _run_epoch(objective: Objective, number: int, train: Rows, validation: Rows | None, progress: Progress) -> Epoch:
    """Train on one pass, evaluate, check. Speed is of the training alone."""
    started = time.monotonic()
    fitted = objective.fit(train.epoch(number - 1), epochs=1, verbose=0, shuffle=False, callbacks=[progress])
    seconds = time.monotonic() - started
    metrics = {name: float(values[0]) for name, values in fitted.history.items() if name != "auc"}
    rows = metrics.pop("rows")
    if validation is not None:
        evaluated = objective.evaluate(validation.epoch(0), verbose=0, return_dict=True)
        told = [name for name in evaluated if name != "rows" and (name != "auc" or objective.both_labels)]
        metrics |= {f"validation_{name}": float(evaluated[name]) for name in told}
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise InputError(
                f"the {name.replace('_', ' ')} must stay finite, got {value} in epoch {number}; "
                "lower training.learning_rate"
            )
    return Epoch(number, metrics, rows / max(seconds, 1e-9))


def _line(epoch: Epoch, planned: int) -> str:
    values = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in epoch.metrics.items())
    return f"training  epoch {epoch.number}/{planned}  {values}  {epoch.examples_per_s:,.0f} examples/s"


def base_rate(train: Iterable[Any]) -> float:
    """Weighted share of positives in the first batches: records are shuffled, so they stand for all.

    With the bias there from the start, the towers need not learn it.
    """
    positive = total = 0.0
    for _, (_, extras) in zip(range(_RATE_BATCHES), train, strict=False):
        weight = np.asarray(extras["weight"], "float64")
        positive += float((weight * np.asarray(extras["label"], "float64")).sum())
        total += float(weight.sum())
    if total == 0:
        raise InputError("training needs examples with a weight above 0, there are none; widen the training period")
    return positive / total


def logit(rate: float) -> float:
    """Log odds, kept within ±7 where all labels are equal."""
    bounded = min(max(rate, 1e-3), 1 - 1e-3)
    return math.log(bounded / (1 - bounded))
