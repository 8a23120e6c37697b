"""Fitting a two-tower model: one loop over the steps of `step`, early stopping, the best epoch's weights.

What a batch holds is `objective`'s; where batches come from, `input`'s. Equal seed, data and machine kind: equal
weights, to the bit, on a CPU.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.config import TrainingOptions
from pipelines.errors import InputError
from pipelines.models.blocks import derived_seed
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.computing import make_deterministic, precision
from pipelines.training.distribution import ALONE, Devices, agreed, rows_of, summed
from pipelines.training.facts import Facts
from pipelines.training.history import Epoch, History
from pipelines.training.objective import Objective
from pipelines.training.progress import Progress
from pipelines.training.run import Best, Run, one_pass, resumed, save_if_due
from pipelines.training.step import Steps, make_steps

MONITOR = "validation_loss"
"""What decides on the best epoch. The summed loss ranks each positive against mined items, as the evaluation ranks the
catalogue; the AUC over all rows mostly tells users and moments with many positives from those with few."""
_RATE_BATCHES = 32
NAMED = 5
"""Examples that a message names."""


class Rows(Protocol):
    """A split's rows, in batches of (inputs, extras)."""

    def epoch(self, number: int, start_step: int = 0) -> Any:
        """The tf.data.Dataset of epoch 0, 1, …, from batch `start_step` on.

        With a method `example_ids(number, step)`, errors name examples.
        """


def fit(
    model: Any,
    train: Rows,
    validation: Rows | None,
    options: TrainingOptions,
    seed: int,
    on_epoch: Callable[[Epoch], None] | None = None,
    facts: Facts | None = None,
    warm: bool = False,
    checkpoints: Checkpoints | None = None,
    devices: Devices = ALONE,
) -> History:
    """Train `model` in place until `patience` epochs bring nothing better; it is left with the best epoch's weights.

    `warm`: its weights were trained before, the bias with them. With `checkpoints`, it goes on from the latest one, to
    the same weights and history, and saves more. `devices` share every batch. Without validation rows every epoch is
    run and the last one kept; so too, with a note, where their loss is 0 in the first epoch, as it is without a
    positive: it measures nothing.
    Metrics of an epoch: `loss`, each loss part, and with validation rows `validation_loss`, its parts and, where there
    are both labels, `validation_auc`. Raises InputError where no training row has a weight, and where a loss stops
    being finite: it names examples of that batch; StoppedError where a signal asked to stop.
    """
    make_deterministic(seed)
    rate, full_rows = base_rate(train.epoch(0), devices)
    if not warm and options.losses.pointwise > 0:
        model.bias.assign(logit(rate))
    with precision(model, options.precision):
        objective = Objective(model, options.losses, seed=derived_seed(seed, "objective"), facts=facts)
        scheduled = options.learning_rate_schedule != "constant"
        total_steps = options.epochs * int(train.epoch(0).cardinality()) if scheduled else 0
        steps = make_steps(objective, options, total_steps, full_rows, devices)
        progress = Progress(options.epochs)
        with resumed(checkpoints, steps, model, devices) as run:
            for number in range(run.number, options.epochs + 1):
                # Asked before an epoch, so that one that was stopped after its last does no more.
                if run.epochs and number - 1 - run.best.epoch >= max(options.patience, 1):
                    break
                model.at((number - 1) / max(options.epochs - 1, 1))
                epoch = _run_epoch(objective, steps, run, train, validation, progress, checkpoints, devices)
                run.finish(epoch)
                progress.line(epoch.line(options.epochs))
                if on_epoch:
                    on_epoch(epoch)
                measures = validation is not None and run.epochs[0].metrics[MONITOR] != 0
                if validation is not None and not measures and number == 1:
                    progress.line(
                        "note: the validation rows measure nothing, their loss is 0: none of them is a positive, or "
                        "has a weight; every epoch is run and the last one kept"
                    )
                # Without a measure the newest counts as the best.
                rank = (-epoch.metrics[MONITOR] if measures else number,)
                if rank > run.best.rank:
                    run.best = Best(rank, number, model.get_weights())
                if number < options.epochs:
                    save_if_due(run, checkpoints, steps)
        model.set_weights(run.best.weights)
    return History(tuple(run.epochs), run.best.epoch, MONITOR)


def _run_epoch(
    objective: Objective,
    steps: Steps,
    run: Run,
    train: Rows,
    validation: Rows | None,
    progress: Progress,
    checkpoints: Checkpoints | None,
    devices: Devices,
) -> Epoch:
    """Train on what is left of a pass, evaluate, check. Speed and waiting are of the training alone."""
    number = run.number
    if not run.step:
        objective.reset_metrics()

    def read(step: int, batch: Any, loss: Any) -> NDArray[np.float64]:
        size = _size(batch)
        return np.array([_finite(step, batch[1], loss, size, number, train) * size, size])

    # Rows that are never resumed need not know how to begin in the middle.
    batches = train.epoch(number - 1, run.step) if run.step else train.epoch(number - 1)
    one_pass(run, batches, lambda batch: steps.train(*batch), read, steps, progress, _size, checkpoints)
    loss_sum, rows = run.sums
    metrics = {"loss": float(loss_sum / max(rows, 1)), **_told(objective)}
    if validation is not None:
        metrics |= {f"validation_{name}": value for name, value in evaluate(objective, steps, validation).items()}
    metrics = agreed(devices, metrics)
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise InputError(
                f"the {name.replace('_', ' ')} must stay finite, got {value} in epoch {number}; "
                "lower training.learning_rate"
            )
    return Epoch(number, metrics, float(rows) / run.seconds, run.waited / run.seconds)


def _size(batch: Any) -> int:
    return rows_of(batch[1])


def evaluate(objective: Objective, steps: Steps, rows: Rows) -> dict[str, float]:
    """The summed loss, its parts and, where there are both labels, the AUC, of all rows of a split."""
    objective.reset_metrics()
    for inputs, extras in rows.epoch(0):
        steps.evaluate(inputs, extras)
    steps.settle()
    parts = _told(objective)
    summed = sum(weight * parts[name] for name, (weight, _) in objective.parts.items())
    return {"loss": summed, **parts} | ({"auc": float(objective.auc.result())} if objective.both_labels else {})


def _told(objective: Objective) -> dict[str, float]:
    return {name: float(value) for name, value in objective.means.result().items()}


def _finite(number: int, extras: Any, loss: Any, size: int, epoch: int, train: Rows) -> float:
    """The loss of a step. Raises InputError, naming examples of its batch, where it is not finite."""
    if math.isfinite(value := float(loss)):
        return value
    labels = np.stack([np.asarray(extras[name], "float64") for name in ("label", "weight")])
    odd = np.flatnonzero(~np.isfinite(labels).all(axis=0))
    # Where labels and weights are numbers, the fault may be anywhere in the batch.
    some = (odd if len(odd) else np.arange(labels.shape[1]))[:NAMED]
    ids = train.example_ids(epoch - 1, number) if hasattr(train, "example_ids") else None
    named = ", ".join(
        ids[row] if ids is not None else f"user_key {extras['user_key'][row]} item_key {extras['item_key'][row]}"
        for row in some
    )
    what = "with a label or weight that is not a number" if len(odd) else f"of {size}"
    raise InputError(
        f"the loss must stay finite, got {value} in epoch {epoch} at step {number + 1}; lower training.learning_rate, "
        f"or look at its examples: {named} ({min(len(some), NAMED)} {what})"
    )


def base_rate(train: Iterable[Any], devices: Devices = ALONE) -> tuple[float, int]:
    """Weighted share of positives in the first batches, and the rows of a whole one. Records are shuffled: they stand
    for all, and with the bias there from the start, the towers need not learn it.
    """
    positive = total = 0.0
    full_rows = 0
    for _, (_, extras) in zip(range(_RATE_BATCHES), train, strict=False):
        weight = np.asarray(extras["weight"], "float64")
        positive += float((weight * np.asarray(extras["label"], "float64")).sum())
        total += float(weight.sum())
        full_rows = max(full_rows, len(weight))
    positive, total = (float(value) for value in summed(devices, np.array([positive, total])))
    if total == 0:
        raise InputError("training needs examples with a weight above 0, there are none; widen the training period")
    return positive / total, full_rows


def logit(rate: float) -> float:
    """Log odds, kept within ±7 where all labels are equal."""
    bounded = min(max(rate, 1e-3), 1 - 1e-3)
    return math.log(bounded / (1 - bounded))
