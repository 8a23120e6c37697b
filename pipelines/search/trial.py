"""One trial: options trained on the rows of the search, once or once a fold, and how good and how fast they are."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.config import ClassifierOptions, SearchOptions
from pipelines.errors import ConfigError, InputError
from pipelines.models.saved_classifier import BATCH, SavedClassifier
from pipelines.training.history import Epoch
from pipelines.training.images import LabelledImages
from pipelines.training.network import TrainedNetwork, train_network

_TIMED_ROWS, _TIMED_S = 1024, 1.0


class GivenUpError(Exception):
    """The trial was stopped by what its epochs came to, or by a loss that stopped being finite: the text says which."""


@dataclass(frozen=True)
class Fold:
    """Rows to train on, and rows to measure on."""

    train: LabelledImages
    held: LabelledImages


@dataclass(frozen=True)
class Fit:
    """What came of a trial that was trained to its end."""

    model: Any
    """Of the first fold: Keras's, or `NearestNeighbours`."""
    accuracies: tuple[float, ...]
    """Of each fold at the last epoch; without folds, the best epoch's on validation."""
    best_epoch: int
    """Of the first fold."""

    @property
    def accuracy(self) -> float:
        """The mean over folds."""
        return float(np.mean(self.accuracies))


def folds_of(train: LabelledImages, validation: LabelledImages, options: SearchOptions, seed: int) -> list[Fold]:
    """What trials train and measure on: one pair, or `options.folds` of all rows together. `train` is the sample.

    Raises InputError where there is nothing to train or measure on, ConfigError where there are fewer rows than folds.
    """
    if not train.rows:
        raise InputError("a search must have training images, there are none; put some into the split train")
    if options.folds is None:
        if not validation.rows:
            raise InputError(
                "a search must have validation images to choose by, there are none; widen images.validation_share, or "
                "set search.folds"
            )
        return [Fold(train, validation)]
    whole = LabelledImages(
        train.ids + validation.ids,
        np.concatenate([train.images, validation.images]),
        np.concatenate([train.labels, validation.labels]),
    )
    if whole.rows < options.folds:
        raise ConfigError(
            f"search.folds must be at most the {whole.rows:,} images of train and validation, got {options.folds}; "
            "set fewer"
        )
    parts = np.array_split(np.random.default_rng(seed).permutation(whole.rows), options.folds)
    return [Fold(whole.take(np.setdiff1d(np.arange(whole.rows), held)), whole.take(np.sort(held))) for held in parts]


def fit(
    options: ClassifierOptions,
    folds: Sequence[Fold],
    classes: Sequence[str],
    *,
    seed: int,
    on_epoch: Callable[[Epoch], bool],
) -> Fit:
    """Train a network on each fold. `on_epoch` sees the first fold's epochs, and True gives the trial up.

    Time is shared by the folds. What a fold leaves out chooses no epoch there: its accuracy is the last one's, where
    schedules end. Raises GivenUpError.
    """
    each = options if options.minutes is None else options.model_copy(update={"minutes": options.minutes / len(folds)})
    stopped: list[int] = []

    def watch(epoch: Epoch) -> bool:
        if on_epoch(epoch):
            stopped.append(epoch.number)
        return bool(stopped)

    trained: list[TrainedNetwork] = []
    for fold in folds:
        watching = None if trained else watch
        try:
            trained.append(train_network(each, fold.train, fold.held, classes, seed=seed, on_epoch=watching))
        except InputError as error:
            # A rate that is too large is a finding of the search. What is wrong with the options is not.
            if isinstance(error, ConfigError) or "finite" not in str(error):
                raise
            raise GivenUpError("the loss stopped being finite") from None
        if stopped:
            raise GivenUpError(f"after epoch {stopped[0]}")
    epochs = [one.history.epochs[-1] if len(folds) > 1 else one.history.best for one in trained]
    accuracies = tuple(epoch.metrics["validation_accuracy"] for epoch in epochs)
    return Fit(trained[0].model, accuracies, epochs[0].number)


def images_per_s(saved: SavedClassifier, images: Any) -> float:
    """How fast it predicts, batches as it is served with; the first call, which compiles, is not counted.

    Neighbours of large images are slow: not all of the rows are then asked for.
    """
    some = images[np.resize(np.arange(len(images)), BATCH)]
    saved.probabilities(some[:1])
    started, done, seconds = time.monotonic(), 0, 0.0
    while done < _TIMED_ROWS and seconds < _TIMED_S:
        saved.probabilities(some)
        done, seconds = done + len(some), time.monotonic() - started
    return done / max(seconds, 1e-9)
