"""Ranks, NDCG and AUC, in plain numpy. What is ranked against what is left to `ranking`."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

UNRANKED = np.iinfo(np.int64).max
"""The rank of a relevant item that was not among the candidates: below every cut."""

_TOLERANCE = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}
"""Scores this close (relative to 1 or their size) are ties: equal items may differ by rounding alone."""


def ranks(scores: npt.NDArray[np.floating], eligible: Bools, own: Ints, draws: Floats) -> Ints:
    """The place, from 1, of each row's own column among the row's eligible columns.

    `scores` and `eligible` have shape (rows, columns); `own` is the column to place, -1 where there is none
    (UNRANKED). A column that ties with T others takes one of the T + 1 places, by the row's draw in [0, 1): tied
    scores get the expected place of a random order, never the best or the worst.

    >>> ranks(np.array([[3.0, 1.0, 2.0]]), np.ones((1, 3), bool), np.array([2]), np.array([0.5])).tolist()
    [2]
    """
    rows = np.arange(len(own))
    mine = scores[rows, np.maximum(own, 0)][:, None]
    near = _TOLERANCE[scores.dtype] * np.maximum(1, np.abs(mine))
    above = (eligible & (scores > mine + near)).sum(axis=1)
    # The own column is eligible and ties with itself; `least` counts it.
    least = (eligible & (scores >= mine - near)).sum(axis=1)
    places = 1 + above + np.floor(draws * (least - above)).astype(np.int64)
    return np.where(own >= 0, places, UNRANKED)


def ndcg(places: Ints, queries: Ints, ks: Sequence[int]) -> tuple[Ints, Floats]:
    """NDCG@k of each query: (queries present, ascending; values in [0, 1], shape (queries, ks)).

    `places` are ranks of relevant items, `queries` the query of each. Gain 1 per relevant item, discount
    1 / log2(1 + rank), ideal: all relevant items first (Järvelin and Kekäläinen 2002). Relevant items of one query
    may have been ranked at different moments: where two held the same place, the second takes the next one, so that
    the value never exceeds 1.

    >>> ndcg(np.array([1, 3]), np.array([7, 7]), [10])[1].round(4).tolist()
    [[0.9197]]
    """
    order = np.lexsort((places, queries))
    present, starts, owner = np.unique(queries[order], return_index=True, return_inverse=True)
    position = np.arange(len(order)) - starts[owner] if len(order) else np.zeros(0, np.int64)
    # Places of a query ascend, so any beyond the last k stay beyond it: capping them keeps the arithmetic small.
    slack = np.minimum(places[order], max(ks) + 1 + position) - position
    separated = _running_maximum(slack, owner, len(present)) + position
    gain, best = _discount(separated), _discount(position + 1)
    columns = [
        np.bincount(owner, np.where(separated <= k, gain, 0.0), len(present))
        / np.bincount(owner, np.where(position < k, best, 0.0), len(present))
        for k in ks
    ]
    return present, np.stack(columns, axis=1)


def best_places(places: Ints, queries: Ints, count: int) -> Ints:
    """The smallest place of each query 0 … count - 1; UNRANKED where it has none."""
    best = np.full(count, UNRANKED)
    np.minimum.at(best, queries, places)
    return best


def auc(scores: npt.NDArray[np.floating], labels: Bools) -> float:
    """P(score of a positive > score of a negative), ties counting half; NaN where either class is absent.

    >>> auc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    return float(auc_resampled(scores, labels, np.zeros(len(labels), np.int64), np.ones((1, 1)))[0])


def auc_resampled(scores: npt.NDArray[np.floating], labels: Bools, users: Ints, weights: Floats) -> Floats:
    """AUC under each row of `weights`, shape (resamples, users); `users` numbers each example's user.

    Sorted once, then linear per resample.
    """
    order = np.argsort(scores, kind="stable")
    ordered, positive, owner = scores[order], labels[order], users[order]
    group = np.cumsum(np.r_[False, ordered[1:] != ordered[:-1]]) if len(order) else np.zeros(0, np.int64)
    groups = int(group[-1]) + 1 if len(order) else 0
    result = np.full(len(weights), np.nan)
    for index, weight in enumerate(weights):
        mass = weight[owner]
        ups = np.bincount(group, mass * positive, groups)
        downs = np.bincount(group, mass * ~positive, groups)
        if (pairs := ups.sum() * downs.sum()) > 0:
            result[index] = (ups * (np.cumsum(downs) - downs / 2)).sum() / pairs
    return result


def user_aucs(scores: npt.NDArray[np.floating], labels: Bools, users: Ints) -> tuple[Floats, Floats]:
    """The AUC of each user who has both labels, among their own examples, and how many examples that is.

    Users ascend. AUC by the rank sum of the positives, ties at their mean rank (Mann and Whitney 1947).

    >>> user_aucs(np.array([3.0, 1.0, 2.0, 9.0]), np.array([True, False, False, True]), np.array([5, 5, 5, 6]))
    (array([1.]), array([3.]))
    """
    order = np.lexsort((scores, users))
    ordered, positive = scores[order], labels[order]
    present, starts, owner = np.unique(users[order], return_index=True, return_inverse=True)
    fresh = np.r_[True, (ordered[1:] != ordered[:-1]) | (owner[1:] != owner[:-1])][: len(order)]
    tie = np.cumsum(fresh) - 1
    rank = np.arange(len(order)) - starts[owner] + 1.0 if len(order) else np.zeros(0)
    mean_rank = (np.bincount(tie, rank) / np.bincount(tie))[tie] if len(order) else rank
    sizes = np.bincount(owner, minlength=len(present)).astype(np.float64)
    ups = np.bincount(owner, positive, len(present))
    rank_sums = np.bincount(owner, mean_rank * positive, len(present))
    both = (ups > 0) & (ups < sizes)
    ups, sizes, rank_sums = ups[both], sizes[both], rank_sums[both]
    return (rank_sums - ups * (ups + 1) / 2) / (ups * (sizes - ups)), sizes


def group_means(values: Floats, groups: Ints, count: int) -> Floats:
    """Mean of `values` (rows, columns) per group 0 … count - 1; every group must occur."""
    sizes = np.bincount(groups, minlength=count)
    sums = [np.bincount(groups, column, count) for column in values.T]
    return np.stack(sums, axis=1) / sizes[:, None] if sums else np.zeros((count, 0))


def _discount(places: Ints) -> Floats:
    return 1.0 / np.log2(1.0 + places.astype(np.float64))


def _running_maximum(values: Ints, owner: Ints, owners: int) -> Ints:
    """Running maximum within each owner's run: lifting every run above the one before makes one pass enough."""
    if not len(values):
        return values
    low = values.min()
    step = values.max() - low + 1
    lift = owner * step - low
    return np.asarray(np.maximum.accumulate(values + lift) - lift, np.int64)
