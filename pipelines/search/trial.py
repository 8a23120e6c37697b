"""One trial: options trained on the rows of the search, once or once a fold, and how good and how fast they are."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.config import ClassifierOptions, SearchOptions
from pipelines.errors import ConfigError, InputError
from pipelines.models.nearest import Distance, NearestNeighbours, cross_validate, vote
from pipelines.models.saved_classifier import SavedClassifier
from pipelines.training.images import LabelledImages
from pipelines.training.network import Epoch, TrainedNetwork, train_network

_TIMED_ROWS = 1024


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
    """Of each fold; without folds, the one on validation."""
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

    Time is shared by the folds. Raises GivenUpError.
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
    accuracies = tuple(one.history.best.metrics["validation_accuracy"] for one in trained)
    return Fit(trained[0].model, accuracies, trained[0].history.best_epoch)


def neighbour_curves(
    fold: Fold, options: SearchOptions, classes: int, *, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """(distance, k, mean, sd, accuracies) of every distance and number of neighbours, by cross-validation of the rows
    to train on; and notes.

    The deviation is that over folds, one sigma of the curve's bars. Raises ConfigError where no k can be.
    """
    folds = options.folds or options.neighbour_folds
    # What is left of the smallest training part.
    most = fold.train.rows - -(-fold.train.rows // folds)
    ks = [k for k in sorted(set(options.neighbours)) if k <= most]
    if not ks:
        raise ConfigError(
            f"search.neighbours must have a k that is at most the {most} training images of a fold, got "
            f"{list(options.neighbours)}; set smaller ones, or leave nearest out of search.families"
        )
    left = [k for k in options.neighbours if k > most]
    notes = [f"k = {', '.join(map(str, left))} left out: a fold has {most} training images"] if left else []
    rows = []
    distances: tuple[Distance, ...] = ("l1", "l2")
    for distance in distances:
        found = cross_validate(
            fold.train.images, fold.train.labels, classes, ks, distance=distance, folds=folds, seed=seed
        )
        for k, accuracies in zip(ks, found, strict=True):
            rows.append(
                {
                    "distance": distance,
                    "k": k,
                    "mean": round(float(accuracies.mean()), 6),
                    "sd": round(float(accuracies.std(ddof=1)), 6),
                    "accuracies": [round(float(value), 6) for value in accuracies],
                }
            )
    return rows, notes


def fit_nearest(folds: Sequence[Fold], classes: int, *, k: int, distance: Distance) -> Fit:
    """Nearest neighbours with these options on each fold."""
    models = [NearestNeighbours(f.train.images, f.train.labels, classes, k=k, distance=distance) for f in folds]
    accuracies = tuple(
        float((vote(model.labels[model.neighbours(f.held.images, k)], classes) == f.held.labels).mean())
        for model, f in zip(models, folds, strict=True)
    )
    return Fit(models[0], accuracies, 1)


def images_per_s(saved: SavedClassifier, images: Any) -> float:
    """How fast it predicts, batches as it is served with; the first call, which compiles, is not counted."""
    some = images[np.resize(np.arange(len(images)), _TIMED_ROWS)]
    saved.probabilities(some[:1])
    started = time.monotonic()
    saved.probabilities(some)
    return len(some) / max(time.monotonic() - started, 1e-9)
