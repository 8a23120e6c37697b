"""Features that are too good: how well each alone tells the label of training examples. [numpy, Arrow]

A join can be right to the microsecond and a column still state the outcome, written by somebody who knew it. Such a
feature orders nearly all positives before nearly all negatives. Which examples are looked at is left to `evidence`.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.examples.audit.report import Check, Probed, Skipped
from schemas.examples import FeatureSet

NAME = "features that state the label"
LEAST = 20
"""With fewer positives or negatives than this, chance alone may separate them."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def probe(examples: pa.Table, features: FeatureSet, limit: float) -> tuple[list[Probed], Check | Skipped]:
    """Every feature's AUC, the most telling first, and the check that none is above `limit`.

    `examples` has the columns of `features` and `label`. Skipped where either label is too rare to tell.
    """
    labels = examples["label"].to_numpy() == 1
    fewer = int(min(labels.sum(), (~labels).sum()))
    if fewer < LEAST:
        return [], Skipped(NAME, "probe", f"{LEAST} training examples of each label are needed, there are {fewer}")
    kinds = {**features.user.content, **features.item.content}
    found = [
        Probed(name, round(separation(_score(examples[name], kinds.get(name, ""), labels), labels), 6), len(labels))
        for name in (column.name for column in features.columns)
    ]
    found.sort(key=lambda probed: (-probed.auc, probed.feature))
    return found, _judged(found, limit)


def auc(values: Floats, labels: Bools) -> float:
    """Share of the pairs of a positive and a negative in which the positive's value is larger; ties count half.

    >>> auc(np.array([1.0, 2.0, 2.0]), np.array([False, True, False]))
    0.75
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    positives = np.bincount(place, weights=labels)
    negatives = counts - positives
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (positives.sum() * negatives.sum()))


def separation(values: Floats, labels: Bools) -> float:
    """The larger of AUC and 1 - AUC; NaN is missing, a value below or above all others, whichever separates more."""
    missing = np.isnan(values)
    placed = [auc(np.where(missing, end, values), labels) for end in ((-np.inf, np.inf) if missing.any() else (0.0,))]
    return max(max(area, 1 - area) for area in placed)


def rate_elsewhere(column: pa.ChunkedArray, labels: Bools) -> Floats:
    """(rows,) for each row the share of positives among the rows of its value in the other half of the rows.

    So a value is never scored by its own row's label, and one that is seen once tells nothing.
    """
    values = column.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False) + 1
    half = np.arange(len(values)) % 2
    score = np.empty(len(values))
    for own in (0, 1):
        others = half != own
        seen = np.bincount(values[others], minlength=values.max() + 1)
        positive = np.bincount(values[others], weights=labels[others], minlength=values.max() + 1)
        overall = labels[others].mean()
        score[~others] = np.where(seen > 0, positive / np.maximum(seen, 1), overall)[values[~others]]
    return score


def _score(column: pa.ChunkedArray, kind: str, labels: Bools) -> Floats:
    """What of a feature is held beside the label: a number, a list's length, a category's rate, a text's presence."""
    if kind == "category":
        return rate_elsewhere(column, labels)
    if pa.types.is_list(column.type):
        column = pc.list_value_length(column)
    elif pa.types.is_string(column.type):
        column = pc.if_else(column.is_valid(), 1.0, None)
    values: Floats = column.cast(pa.float64()).to_numpy()
    return values


def _judged(found: list[Probed], limit: float) -> Check:
    telling = [probed for probed in found if probed.auc > limit]
    if telling:
        names = ", ".join(f"{probed.feature} (AUC {probed.auc:.4f})" for probed in telling)
        detail = (
            f"a feature alone must tell the label with an AUC of at most {limit:g}, got {names}; drop it, or date it "
            "by when it was known; if it may be that good, raise audit.max_feature_auc"
        )
    else:
        detail = "; ".join(f"the most telling is {probed.feature}, AUC {probed.auc:.4f}" for probed in found[:1])
    return Check(NAME, "probe", len(found), len(telling), detail)
