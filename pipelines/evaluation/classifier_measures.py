"""A classifier measured on one split: accuracies with their intervals, confusion, each class, calibration.

Intervals are bootstrap intervals over images (Efron 1979), 95 %. Of images that are right or wrong a resample needs no
drawing: its count of right ones is binomial, and of two models' agreements multinomial.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest  # type: ignore[import-untyped]

from pipelines.errors import InputError
from pipelines.evaluation.calibration import curve_rows
from pipelines.evaluation.classification import (
    Scores,
    by_class,
    confusion,
    expected_calibration_error,
    reliability_of_classes,
    top_k_accuracy,
)
from pipelines.evaluation.intervals import FEWEST_USERS, LEVEL, Estimate, Sample
from pipelines.evaluation.metrics import Bools, Ints

TOP = 5
"""The list whose hits are counted beside the first choice, as on ImageNet; of few classes, of 2."""
_PAIRS = 10


def measure(
    probabilities: Scores, labels: Ints, names: Sequence[str], *, resamples: int, seed: int, split: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(metric -> {value, low, high, n}, what tables and plots show) of probabilities (rows, classes).

    Raises InputError where there is no image, or a probability is no number.
    """
    if not len(labels):
        raise InputError(
            f"a classifier must be measured on images, the split {split} has none; set images.{split}_share, or name "
            "images of that split in images.sources, and write the records again"
        )
    if broken := int((~np.isfinite(probabilities)).any(axis=1).sum()):
        raise InputError(
            f"probabilities must be numbers, got others for {broken:,} of {len(labels):,} images: the training went "
            "astray; train again with a smaller classifier.schedule.learning_rate"
        )
    predicted = probabilities.argmax(axis=1)
    counts = confusion(predicted, labels, len(names))
    k = TOP if len(names) > TOP else 2
    metrics = {"accuracy": share_estimate(predicted == labels, resamples, seed)}
    if len(names) > 2:
        of_k = round(top_k_accuracy(probabilities, labels, k) * len(labels))
        metrics[f"top_{k}_accuracy"] = share_estimate(np.arange(len(labels)) < of_k, resamples, seed)
    metrics["calibration_error"] = Estimate(
        round(expected_calibration_error(probabilities, labels), 6), None, None, len(labels)
    )
    return {name: estimate.to_dict() for name, estimate in metrics.items()}, {
        "confusion": counts.tolist(),
        "by_class": by_class(counts, names).to_pylist(),
        "confused": confused(counts, names),
        "reliability": curve_rows(reliability_of_classes(probabilities, labels)),
    }


def share_estimate(hits: Bools, resamples: int, seed: int) -> Estimate:
    """The share of hits among images, with its interval.

    Where all are hits, or none, every resample is alike; the interval is then Wilson's (1927), which knows how many.
    """
    if len(hits) >= FEWEST_USERS and (hits.all() or not hits.any()):
        bounds = binomtest(int(hits.sum()), len(hits)).proportion_ci(LEVEL, method="wilson")
        return Estimate(float(hits.mean()), round(bounds.low, 6), round(bounds.high, 6), len(hits))
    drawn = np.random.default_rng(seed).binomial(len(hits), hits.mean(), resamples)
    return Sample(float(hits.mean()), drawn / len(hits), len(hits)).estimate()


def paired_estimate(hits: Bools, others: Bools, resamples: int, seed: int) -> Estimate:
    """The share of `hits` minus that of `others`, of the same images: where both agree, nothing is uncertain."""
    apart = np.array([(hits & ~others).mean(), (others & ~hits).mean()])
    drawn = np.random.default_rng(seed).multinomial(len(hits), [*apart, max(0.0, 1 - apart.sum())], resamples)
    return Sample(float(apart[0] - apart[1]), (drawn[:, 0] - drawn[:, 1]) / len(hits), len(hits)).estimate()


def confused(counts: Ints, names: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs of classes that are most often taken for each other, the commonest first.

    >>> confused(np.array([[8, 2], [1, 9]]), ["cat", "dog"])
    [{'label': 'cat', 'predicted': 'dog', 'rows': 2}, {'label': 'dog', 'predicted': 'cat', 'rows': 1}]
    """
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [(place // len(counts), place % len(counts)) for place in order]
    return [
        {"label": names[label], "predicted": names[called], "rows": int(wrong[label, called])}
        for label, called in pairs
        if wrong[label, called]
    ]
