"""How good a classifier is: accuracy, top-k, confusion, each class by itself, calibration, and where it errs.

Numpy in, numbers and Arrow tables out. Scores have shape (rows, classes), labels are class numbers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.evaluation.calibration import Bin
from pipelines.evaluation.metrics import Bools, Floats, Ints

Scores = npt.NDArray[np.floating[Any]]

BINS = 15
"""As in Guo et al. 2017, so that figures compare."""


def top_k_accuracy(scores: Scores, labels: Ints, k: int = 1) -> float:
    """Share of the rows whose label is among the k highest scores; NaN without rows. k = 1 is the accuracy.

    Of equal scores the lower class comes first, as in argmax: a model that scores all classes alike gets no credit
    for a label that it did not choose.

    >>> top_k_accuracy(np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]]), np.array([1, 2]))
    0.5
    """
    if not len(labels):
        return float("nan")
    own = scores[np.arange(len(labels)), labels][:, None]
    before = np.arange(scores.shape[1]) < labels[:, None]
    # Not `>`: scores that are no numbers are right about nothing.
    ahead = (~(scores <= own)).sum(axis=1) + ((scores == own) & before).sum(axis=1)
    return float((ahead < k).mean())


def confusion(predicted: Ints, labels: Ints, classes: int) -> Ints:
    """Counts (classes, classes): rows are labels, columns predictions.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def by_class(counts: Ints, names: Sequence[str]) -> pa.Table:
    """Precision, recall and F1 of each class, from `confusion`; null where there is nothing to divide by.

    precision: of what was called it, how much is; recall: of what is it, how much was called so; F1: 2·right / (rows
    of the label + rows called so), their harmonic mean.
    """
    right, called, there = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    return pa.table(
        {
            "class": pa.array(names, pa.string()),
            "rows": there,
            "precision": _ratio(right, called),
            "recall": _ratio(right, there),
            "f1": _ratio(2 * right, called + there),
        }
    )


def expected_calibration_error(probabilities: Scores, labels: Ints, bins: int = BINS) -> float:
    """Mean over rows of |accuracy - mean confidence| of their bin (Guo et al., ICML 2017, section 2).

    Confidence is the largest probability. Bins have equal width; the towers' clicks are rare, and theirs hold equally
    many rows (`calibration`). NaN without rows, or where a probability is no number.
    """
    if not len(labels) or np.isnan(probabilities).any():
        return float("nan")
    confidence, right, where = _binned(probabilities, labels, bins)
    return float(np.abs(np.bincount(where, right - confidence, bins)).sum() / len(labels))


def reliability_of_classes(probabilities: Scores, labels: Ints, bins: int = BINS) -> list[Bin]:
    """The bins of `expected_calibration_error` from the least confident up: mean confidence, accuracy, rows.

    Empty bins are left out. Probabilities must be numbers.

    >>> reliability_of_classes(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]), bins=2)
    [Bin(predicted=0.75, observed=0.5, n=2)]
    """
    confidence, right, where = _binned(probabilities, labels, bins)
    sizes = np.bincount(where, minlength=bins)
    filled = np.flatnonzero(sizes)
    means, shares = (np.bincount(where, values, bins)[filled] / sizes[filled] for values in (confidence, right))
    rows = zip(means, shares, sizes[filled], strict=True)
    return [Bin(round(float(mean), 6), round(float(share), 6), int(size)) for mean, share, size in rows]


def confident_mistakes(
    probabilities: Scores, labels: Ints, ids: Sequence[str], names: Sequence[str], count: int
) -> pa.Table:
    """The `count` wrong rows that the model was surest of, the surest first, equal ones by id.

    They show wrong labels, twins of two classes, and what a model looks at by mistake.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.lexsort((np.asarray(ids, dtype=np.str_)[wrong], -confidence[wrong]))][:count]
    rows = np.arange(len(labels))
    return pa.table(
        {
            "id": pa.array([ids[row] for row in order], pa.string()),
            "label": pa.array([names[labels[row]] for row in order], pa.string()),
            "predicted": pa.array([names[predicted[row]] for row in order], pa.string()),
            "confidence": pa.array(confidence[order].astype(np.float64)),
            "of_label": pa.array(probabilities[rows, labels][order].astype(np.float64)),
        }
    )


def _binned(probabilities: Scores, labels: Ints, bins: int) -> tuple[Floats, Bools, Ints]:
    """Each row's confidence, whether it is right, and its bin."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    return confidence, right, np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _ratio(part: Ints, whole: Ints) -> pa.Array:
    return pa.array(part / np.maximum(whole, 1), mask=whole == 0)
