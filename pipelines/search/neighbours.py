"""The trial of the family nearest: how many neighbours, by which distance, chosen within the rows to train on."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.config import SearchOptions
from pipelines.errors import ConfigError
from pipelines.models.nearest import Distance, NearestNeighbours, cross_validate
from pipelines.search.trial import Fit, Fold

_DISTANCES: tuple[Distance, ...] = ("l1", "l2")
_TIMED, _ASKED = 1024, 32
"""Rows and questions that a search is timed with: large enough for Faiss to work as it does with more."""

Curves = list[dict[str, Any]]
"""Rows of distance, k, mean, sd and accuracies."""


def fit_nearest(folds: Sequence[Fold], options: SearchOptions, classes: int, *, seed: int) -> tuple[Fit, Curves]:
    """Nearest neighbours on each fold, k and distance chosen by cross-validation of its rows to train on alone.

    The curves, and so what `choice` makes of them, are the first fold's. Raises ConfigError where no k can be.
    """
    curves = [neighbour_curves(fold, options, classes, seed=seed) for fold in folds]
    first, accuracies = None, []
    for fold, of_fold in zip(folds, curves, strict=True):
        best = choice(of_fold)
        model = NearestNeighbours(fold.train.images, fold.train.labels, classes, k=best["k"], distance=best["distance"])
        accuracies.append(float((model.predict(fold.held.images) == fold.held.labels).mean()))
        first = first or model
    return Fit(first, tuple(accuracies), 1), curves[0]


def choice(curves: Curves) -> dict[str, Any]:
    """The best row; of equals the first: L1 before L2, then fewer neighbours."""
    return max(curves, key=lambda row: row["mean"])


def neighbour_curves(fold: Fold, options: SearchOptions, classes: int, *, seed: int) -> Curves:
    """Every distance and number of neighbours, by cross-validation of the rows to train on.

    The deviation is that over folds, one sigma of the curve's bars. Raises ConfigError where no k can be.
    """
    ks, _ = possible(fold.train.rows, options)
    rows = []
    for distance in _DISTANCES:
        found = cross_validate(
            fold.train.images, fold.train.labels, classes, ks, distance=distance, folds=_inner(options), seed=seed
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
    return rows


def possible(rows: int, options: SearchOptions) -> tuple[list[int], list[int]]:
    """Numbers of neighbours that can be tried with so many rows to train on, and those that cannot.

    Raises ConfigError where none can.
    """
    # What is left of the smallest training part.
    most = rows - -(-rows // _inner(options))
    ks = [k for k in sorted(set(options.neighbours)) if k <= most]
    if not ks:
        raise ConfigError(
            f"search.neighbours must have a k that is at most the {most} training images of a fold, got "
            f"{list(options.neighbours)}; set smaller ones, or leave nearest out of search.families"
        )
    return ks, [k for k in options.neighbours if k > most]


def within(folds: Sequence[Fold], options: SearchOptions, classes: int, seconds: float | None) -> list[Fold]:
    """The folds with as many of their first rows to train on as `fit_nearest` can look at in so many seconds.

    A few questions are timed: how long L1 takes depends on the images' size, and the work grows with the square of the
    rows. At least as many rows are left as the fewest neighbours need.
    """
    if seconds is None:
        return list(folds)
    inner = _inner(options)
    each = _seconds_a_pair(folds[0], max(options.neighbours), classes)
    # Pairs looked at: n² by the folds within, n × held afterwards.
    squares, lines = each * len(folds) * (1 - 1 / inner), each * sum(fold.held.rows for fold in folds)
    rows = int((np.sqrt(lines**2 + 4 * squares * seconds) - lines) / (2 * squares))
    rows = max(rows, min(options.neighbours) * 2 + inner)
    return [Fold(fold.train.take(np.arange(min(rows, fold.train.rows))), fold.held) for fold in folds]


def _seconds_a_pair(fold: Fold, k: int, classes: int) -> float:
    """Of both distances between two images."""
    some = fold.train.take(np.arange(min(_TIMED, fold.train.rows)))
    asked, seconds = some.images[np.resize(np.arange(some.rows), _ASKED)], 0.0
    for distance in _DISTANCES:
        model = NearestNeighbours(some.images, some.labels, classes, k=1, distance=distance)
        model.neighbours(asked[:1], 1)
        started = time.monotonic()
        model.neighbours(asked, min(k, some.rows))
        seconds += time.monotonic() - started
    return max(seconds, 1e-6) / (some.rows * _ASKED)


def _inner(options: SearchOptions) -> int:
    return options.folds or options.neighbour_folds
