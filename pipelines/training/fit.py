"""Fitting a two-tower model: Adam, early stopping, the best epoch's weights, one record per epoch.

What a batch holds is `objective`'s; where batches come from, `input`'s. Equal seed, data and machine kind: equal
weights, to the bit, on a CPU.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from pipelines.config import TrainingOptions
from pipelines.errors import InputError
from pipelines.models.blocks import derived_seed
from pipelines.training.objective import Objective
from pipelines.training.progress import Progress

MONITOR = "validation_loss"
"""What decides on the best epoch. The summed loss ranks each positive against mined items, as the evaluation ranks the
catalogue; the AUC over all rows mostly tells users and moments with many positives from those with few."""
_RATE_BATCHES = 32


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows."""

    number: int
    """1, 2, …"""
    metrics: dict[str, float]
    """`loss`, each loss part, and with validation rows `validation_loss`, its parts and `validation_auc`."""
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
    train: Any,
    validation: Any | None,
    options: TrainingOptions,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train `model` in place on datasets of (inputs, extras) batches.

    Without validation rows every epoch is run and the last one kept. Raises InputError where there is no training row
    and where the loss stops being finite.
    """
    make_deterministic(seed)
    model.bias.assign(_logit(_base_rate(train)))
    objective = Objective(model, options.losses, seed=derived_seed(seed, "objective"))
    objective.compile(optimizer=keras.optimizers.Adam(options.learning_rate), jit_compile=False)
    progress = Progress(options.epochs)
    record = _Record(progress, options.epochs, on_epoch)
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=options.patience, restore_best_weights=True)
    objective.fit(
        train,
        validation_data=validation,
        epochs=options.epochs,
        callbacks=[record, progress, *([stopping] if validation is not None else [])],
        verbose=0,
    )
    best = stopping.best_epoch + 1 if validation is not None else len(record.epochs)
    return History(tuple(record.epochs), best)


def make_deterministic(seed: int) -> None:
    """Seed every generator and ask the backend for the same result every time. Holds for the whole process."""
    keras.utils.set_random_seed(derived_seed(seed, "fit"))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


class _Record(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the epochs' metrics and speeds, tells of them, and stops at a loss that is not finite."""

    def __init__(self, progress: Progress, epochs: int, on_epoch: Callable[[Epoch], None] | None) -> None:
        super().__init__()
        self.progress = progress
        self.planned = epochs
        self.on_epoch = on_epoch
        self.epochs: list[Epoch] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.started = time.monotonic()
        self.trained: float | None = None

    def on_test_begin(self, logs: Any = None) -> None:
        """Stop the clock: speed is of training alone."""
        self.trained = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep, tell, check."""
        logs = {name: float(value) for name, value in (logs or {}).items()}
        seconds = (self.trained or time.monotonic()) - self.started
        rows = logs.pop("rows")
        metrics = {_metric_name(name): value for name, value in logs.items() if name not in ("auc", "val_rows")}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise InputError(
                    f"the {name.replace('_', ' ')} must stay finite, got {value} in epoch {epoch + 1}; "
                    "lower training.learning_rate"
                )
        done = Epoch(epoch + 1, metrics, rows / max(seconds, 1e-9))
        self.epochs.append(done)
        self.progress.line(_line(done, self.planned))
        if self.on_epoch:
            self.on_epoch(done)


def _metric_name(name: str) -> str:
    return name.replace("val_", "validation_", 1) if name.startswith("val_") else name


def _line(epoch: Epoch, planned: int) -> str:
    values = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in epoch.metrics.items())
    return f"training  epoch {epoch.number}/{planned}  {values}  {epoch.examples_per_s:,.0f} examples/s"


def _base_rate(train: Iterable[Any]) -> float:
    """Weighted share of positives in the first batches: records are shuffled, so they stand for all.

    With the bias there from the start, the towers need not learn it.
    """
    positive = total = 0.0
    for number, (_, extras) in enumerate(train):
        if number == _RATE_BATCHES:
            break
        weight = np.asarray(extras["weight"], "float64")
        positive += float((weight * np.asarray(extras["label"], "float64")).sum())
        total += float(weight.sum())
    if total == 0:
        raise InputError("training needs examples with a weight above 0, there are none; widen the training period")
    return positive / total


def _logit(rate: float) -> float:
    """Log odds, kept within ±7 where all labels are equal."""
    bounded = min(max(rate, 1e-3), 1 - 1e-3)
    return math.log(bounded / (1 - bounded))
