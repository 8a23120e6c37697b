"""Training a classifying network: epochs of steps, validation after each, the best epoch's weights.

What a step does is `class_step`'s, where batches come from `images`'s. Equal seed, data and machine kind: equal
weights, to the bit, on a CPU.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from pipelines.config import ClassifierOptions
from pipelines.errors import ConfigError, InputError
from pipelines.losses.classification import class_loss
from pipelines.models.classifier import OF_CONTENT, build_classifier
from pipelines.models.saved_classifier import in_batches
from pipelines.training.augment import augment
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.class_step import ClassStep, make_step
from pipelines.training.computing import make_deterministic, precision
from pipelines.training.decay import spare_the_rest
from pipelines.training.distribution import ALONE, Devices, agreed
from pipelines.training.fit import NAMED
from pipelines.training.history import Epoch, History
from pipelines.training.images import Batches, check_labels, mean_image
from pipelines.training.progress import Progress
from pipelines.training.run import Best, Run, one_pass, resumed, save_if_due
from pipelines.training.schedules import schedule

MONITOR = "validation_accuracy"
"""What decides on the best epoch."""
CENTRED = OF_CONTENT
"""Families of which an image goes in less the mean image: those that look at raw pixels."""


class Labelled(Protocol):
    """Rows with a class each, such as `LabelledImages`."""

    @property
    def rows(self) -> int:
        """How many there are."""

    @property
    def inputs(self) -> Any:
        """What `build_classifier` builds for."""

    def pieces(self) -> Iterator[Any]:
        """All of them, in order: objects with `ids`, `images` and `labels`."""

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Shuffled."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A Keras model from inputs to scores, and how it came about."""

    model: Any
    history: History


def train_network(
    options: ClassifierOptions,
    train: Labelled,
    validation: Labelled | None,
    classes: Sequence[str],
    *,
    seed: int,
    on_epoch: Callable[[Epoch], bool | None] | None = None,
    checkpoints: Checkpoints | None = None,
    devices: Devices = ALONE,
) -> TrainedNetwork:
    """Train a network of `options.family`; it has the weights of the epoch with the best validation accuracy.

    Of equal accuracies the lower loss decides, then the earlier epoch; without validation rows the last epoch is kept.
    An epoch's metrics are `loss` and `accuracy`, of training and of validation. Losses leave out what `loss.l2` adds;
    those of training are of the weights as they were at each step, and of augmented images. `on_epoch`: True stops.
    With `checkpoints`, it goes on from the latest one, to the same weights and history, and saves more. `devices` share
    every batch; each process measures the whole validation.
    Raises InputError where there is nothing to train on, a label is none of `classes`, or the loss stops being finite:
    it names images of that batch; StoppedError where a signal asked to stop.
    """
    if not train.rows:
        raise InputError("a classifier must have training rows, there are none; put some into the split train")
    for piece in train.pieces():
        check_labels(piece.ids, piece.labels, classes)
    _check_shared(options.batch_size, train.rows, devices.parts)
    make_deterministic(seed)
    of_images = isinstance(train.inputs[0], int)
    if of_images and options.augment.crop >= min(train.inputs[:2]):
        raise ConfigError(
            f"classifier.augment.crop must be less than the images' shorter side, {min(train.inputs[:2])} pixels, got "
            f"{options.augment.crop}; set fewer, or 0"
        )
    mean = mean_image(train) if options.family in CENTRED and of_images else None  # type: ignore[arg-type]
    model = build_classifier(options, train.inputs, len(classes), seed=seed, mean=mean)
    batches = train.batches(options.batch_size, seed)
    optimizer = _optimizer(options)
    spare_the_rest(optimizer, model)
    with precision(model, options.precision):
        rates = schedule(options.schedule, options.epochs * batches.steps)
        step = make_step(model, options, optimizer, rates, augment(options.augment, seed), devices)
        with resumed(checkpoints, step, model, devices) as run:
            _epochs(model, step, optimizer, run, batches, validation, options, on_epoch, checkpoints, devices)
        model.set_weights(run.best.weights)
    return TrainedNetwork(model, History(tuple(run.epochs), run.best.epoch, MONITOR))


def _check_shared(batch_size: int, rows: int, parts: int) -> None:
    """Raises ConfigError where a batch, which is cut to the rows that there are, cannot be shared in equal parts."""
    if batch_size > rows and rows % parts:
        most = rows // parts * parts
        remedy = f"set it to {most}" if most else "leave out --processes and --devices"
        raise ConfigError(
            f"`classifier.batch_size` must be a multiple of the processes times their devices, {parts}, got "
            f"{batch_size}, which is cut to the {rows} training rows that there are; {remedy}"
        )


def scores_of(model: Any, images: Any, batch_size: int = 256) -> npt.NDArray[np.float32]:
    """(n, C), in batches."""
    return in_batches(lambda some: np.asarray(model.predict_on_batch(some), np.float32), images, batch_size)


class Clock:
    """How far a training is: by its steps, and by the minutes that it may take."""

    def __init__(self, options: ClassifierOptions, run: Run, steps_of_epoch: int) -> None:
        self.run, self.steps_of_epoch, self.steps = run, steps_of_epoch, options.epochs * steps_of_epoch
        self.seconds = options.minutes * 60 if options.minutes else math.inf

    @property
    def at(self) -> float:
        """The step of the schedule that is next: further than the steps that were done where time is short."""
        done = (self.run.number - 1) * self.steps_of_epoch + self.run.step
        return max(done, self.steps * (time.monotonic() - self.run.started) / self.seconds)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left."""
        return self.at >= self.steps


def _optimizer(options: ClassifierOptions) -> Any:
    """Keras's own, its rate a variable that the step sets."""
    given, rate = options.optimizer, options.schedule.learning_rate
    kept = {"use_ema": True, "ema_momentum": options.ema} if options.ema else {}
    decay = given.weight_decay or None
    if given.name == "sgd":
        return keras.optimizers.SGD(rate, given.momentum, nesterov=given.momentum > 0, weight_decay=decay, **kept)
    return keras.optimizers.Adam(rate, weight_decay=decay, **kept)


def _epochs(
    model: Any,
    step: ClassStep,
    optimizer: Any,
    run: Run,
    batches: Batches,
    validation: Labelled | None,
    options: ClassifierOptions,
    on_epoch: Callable[[Epoch], bool | None] | None,
    checkpoints: Checkpoints | None,
    devices: Devices,
) -> None:
    progress, clock = Progress(options.epochs, unit="images"), Clock(options, run, batches.steps)
    for number in range(run.number, options.epochs + 1):
        if run.epochs and not run.step and clock.is_over:
            break
        metrics = train_epoch(step, run, batches, clock, progress, checkpoints)
        moving = [np.array(weight) for weight in model.trainable_variables] if options.ema else []
        if options.ema:
            optimizer.finalize_variable_values(model.trainable_variables)
            # Copies: on JAX a mean and its weight would share memory, which predicting gives away.
            model.set_weights(model.get_weights())
        if validation is not None and validation.rows:
            measured = agreed(devices, evaluate(model, validation, options))
            metrics |= {f"validation_{name}": value for name, value in measured.items()}
        epoch = Epoch(number, metrics, float(run.sums[2]) / run.seconds, run.waited / run.seconds)
        run.finish(epoch)
        progress.line(epoch.line(options.epochs, "images"))
        # Without a measure the newest counts as the best.
        rank = (metrics.get(MONITOR, number), -metrics.get("validation_loss", 0.0))
        if rank > run.best.rank:
            run.best = Best(rank, number, model.get_weights())
        for weight, value in zip(model.trainable_variables, moving, strict=False):
            weight.assign(value)
        if on_epoch and on_epoch(epoch):
            break
        if number < options.epochs and not clock.is_over:
            save_if_due(run, checkpoints, step)


def train_epoch(
    step: ClassStep,
    run: Run,
    batches: Batches,
    clock: Clock,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
) -> dict[str, float]:
    """Do what is left of a pass; mean loss and accuracy of its steps."""
    number = run.number

    def read(place: int, batch: Any, told: Any) -> npt.NDArray[np.float64]:
        return np.array([*_finite(np.asarray(told), number, place, batches), len(batch[1])], np.float64)

    following = batches.epoch(number, run.step)
    one_pass(
        run,
        following,
        lambda batch: step.train(batch[0], batch[1], clock.at),
        read,
        step,
        progress,
        lambda batch: len(batch[1]),
        checkpoints,
        lambda: clock.is_over,
    )
    loss, accuracy = run.sums[:2] / run.step
    return {"loss": float(loss), "accuracy": float(accuracy)}


def evaluate(model: Any, rows: Labelled, options: ClassifierOptions) -> dict[str, float]:
    """Mean `loss`, without `loss.l2`, and `accuracy` of all rows."""
    loss, costs, right = class_loss(options.loss), 0.0, 0
    for piece in rows.pieces():
        if piece.rows:
            scores = scores_of(model, piece.images)
            costs += float(np.sum(np.asarray(loss(scores, piece.labels)), dtype=np.float64))
            right += int((scores.argmax(axis=1) == piece.labels).sum())
    return {"loss": costs / rows.rows, "accuracy": right / rows.rows}


def _finite(told: npt.NDArray[np.float32], epoch: int, step: int, batches: Batches) -> npt.NDArray[np.float32]:
    """What a step told. Raises InputError, naming images of its batch, where its loss is not finite."""
    if math.isfinite(told[0]):
        return told
    ids = batches.example_ids(epoch, step)
    raise InputError(
        f"the loss must stay finite, got {told[0]} in epoch {epoch} at step {step + 1}; lower "
        f"classifier.schedule.learning_rate, or look at its rows: {', '.join(ids[:NAMED])} ({min(len(ids), NAMED)} of "
        f"{len(ids)})"
    )
