"""Whether predicted probabilities are what they say: the reliability curve and the expected calibration error.

Bins hold about equally many examples (Nguyen and O'Connor 2015), because clicks are rare and bins of equal width would
leave all of them in one. A model trained on drawn negatives predicts the share of positives among such examples, not
among all that a user could be shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.evaluation.intervals import Sample, unmeasured
from pipelines.evaluation.metrics import Bools, Floats, Ints

BINS = 10


@dataclass(frozen=True)
class Bin:
    """One point of the reliability curve: mean prediction, share of positives, examples."""

    predicted: float
    observed: float
    n: int


def bins_of(predicted: Floats, bins: int = BINS) -> Ints:
    """The bin of each prediction, 0 … bins - 1: equal predictions share one, so that a bin may be empty."""
    if not len(predicted):
        return np.zeros(0, np.int64)
    inner = np.quantile(predicted, np.arange(1, bins) / bins, method="inverted_cdf")
    return np.searchsorted(inner, predicted, "left").astype(np.int64)


def reliability(predicted: Floats, labels: Bools, bins: int = BINS) -> list[Bin]:
    """The curve, from the lowest prediction up; empty bins are left out.

    >>> reliability(np.array([0.1, 0.1, 0.8]), np.array([False, True, True]), bins=2)
    [Bin(predicted=0.1, observed=0.5, n=2), Bin(predicted=0.8, observed=1.0, n=1)]
    """
    where = bins_of(predicted, bins)
    sizes = np.bincount(where, minlength=bins)
    filled = np.flatnonzero(sizes)
    means, shares = (np.bincount(where, values, bins)[filled] / sizes[filled] for values in (predicted, labels))
    rows = zip(means, shares, sizes[filled], strict=True)
    return [Bin(round(float(mean), 6), round(float(share), 6), int(size)) for mean, share, size in rows]


def calibration_sample(predicted: Floats, labels: Bools, users: Ints, weights: Floats) -> Sample:
    """Expected calibration error: mean over examples of |mean prediction - share of positives| of their bin.

    `users` numbers each example's user 0 … n - 1, `weights` has shape (resamples, n). Chance alone makes it larger than
    0 in a small sample, and a resample's is larger still: an interval may lie above its value.
    """
    count = weights.shape[1]
    if not len(predicted):
        return unmeasured(count, len(weights))
    where = bins_of(predicted)
    sums = np.bincount(users * BINS + where, predicted - labels, count * BINS).reshape(count, BINS)
    return Sample(
        float(np.abs(sums.sum(axis=0)).sum() / len(predicted)),
        np.abs(weights @ sums).sum(axis=1) / (weights @ np.bincount(users, minlength=count)),
        count,
    )


def curve_rows(curve: Sequence[Bin]) -> list[dict[str, float | int]]:
    """As published."""
    return [{"predicted": b.predicted, "observed": b.observed, "n": b.n} for b in curve]
