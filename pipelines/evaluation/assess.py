"""Metrics by slice, with intervals, of every ranker at once. What is computed per user stands in `ranking`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.evaluation.intervals import Estimate, auc_estimate, mean_estimates, user_weights
from pipelines.evaluation.metrics import Bools, Floats, Ints, group_means, ndcg

NDCG_AT = 10

Measured = dict[str, dict[str, dict[str, Estimate]]]
"""Ranker -> slice -> metric -> estimate."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn."""

    resamples: int
    seed: int


def ranking_metrics(
    places: Mapping[str, Ints],
    users: Ints,
    clocks: Ints,
    slices: Mapping[str, Bools],
    ks: tuple[int, ...],
    bootstrap: Bootstrap,
    against: str | None = None,
) -> Measured:
    """recall@k and ndcg@10 per ranker and slice, over the evaluated examples.

    `users` and `clocks` number each example's. With `against`, paired differences: that ranker minus each other one.
    """
    names = list(places)
    metrics = [*(f"recall@{k}" for k in ks), f"ndcg@{NDCG_AT}"]
    measured: Measured = {name: {} for name in names if name != against}
    for slice_, mask in slices.items():
        present, owner = np.unique(users[mask], return_inverse=True)
        query_ids, query = np.unique(np.stack([owner, clocks[mask]], axis=1), axis=0, return_inverse=True)
        columns = [_per_user(places[name][mask], owner, query.ravel(), query_ids[:, 0], ks) for name in names]
        if against is not None:
            mine = columns[names.index(against)]
            columns = [mine - other for name, other in zip(names, columns, strict=True) if name != against]
        weights = user_weights(len(present), bootstrap.resamples, bootstrap.seed)
        estimates = mean_estimates(np.concatenate(columns, axis=1), weights)
        for index, name in enumerate(measured):
            part = estimates[index * len(metrics) : (index + 1) * len(metrics)]
            measured[name][slice_] = dict(zip(metrics, part, strict=True))
    return measured


def auc_metrics(
    scores: Mapping[str, Any], labels: Bools, users: Ints, slices: Mapping[str, Bools], bootstrap: Bootstrap
) -> Measured:
    """AUC per ranker and slice, over all labelled examples of the split with their own features."""
    measured: Measured = {name: {} for name in scores}
    for slice_, mask in slices.items():
        present, owner = np.unique(users[mask], return_inverse=True)
        weights = user_weights(len(present), bootstrap.resamples, bootstrap.seed)
        for name, values in scores.items():
            measured[name][slice_] = {"auc": auc_estimate(values[mask], labels[mask], owner, weights)}
    return measured


def published(measured: Measured) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Estimates as plain dicts."""
    return {
        name: {slice_: {metric: e.to_dict() for metric, e in row.items()} for slice_, row in slices.items()}
        for name, slices in measured.items()
    }


def _per_user(places: Ints, owner: Ints, query: Ints, query_owner: Ints, ks: tuple[int, ...]) -> Floats:
    """Shape (users, metrics): recall at every k, then NDCG."""
    count = int(owner.max()) + 1 if len(owner) else 0
    hits = np.stack([places <= k for k in ks], axis=1).astype(np.float64)
    present, values = ndcg(places, query, NDCG_AT)
    gains = group_means(values[:, None], query_owner[present], count)
    return np.concatenate([group_means(hits, owner, count), gains], axis=1)
