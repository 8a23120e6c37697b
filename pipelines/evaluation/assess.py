"""Metrics by slice, with intervals, of every ranker at once. What was ranked against what is left to `ranking`.

Every metric is a mean over users, who count alike however active they are, but for `auc` and `calibration_error`
(over all examples) and `user_auc_weighted` (users by their examples).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.evaluation.calibration import calibration_sample
from pipelines.evaluation.intervals import (
    Sample,
    auc_sample,
    mean_samples,
    unmeasured,
    user_auc_samples,
    user_weights,
)
from pipelines.evaluation.metrics import Bools, Floats, Ints, best_places, group_means, ndcg

NDCG_AT = 10
"""NDCG is always reported at this length too, whatever the configured ones."""

Measured = dict[str, dict[str, dict[str, Sample]]]
"""Ranker -> slice -> metric -> sample."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn."""

    resamples: int
    seed: int

    def weights(self, users: int) -> Floats:
        """Shape (resamples, users)."""
        return user_weights(users, self.resamples, self.seed)


def ranking_metrics(
    places: Mapping[str, Ints],
    users: Ints,
    clocks: Ints,
    slices: Mapping[str, Bools],
    ks: tuple[int, ...],
    bootstrap: Bootstrap,
) -> Measured:
    """recall, NDCG and hit rate at every k, and MRR, per ranker and slice, over the evaluated examples.

    `users` and `clocks` number each example's. A query is a user's clock.
    """
    names = list(places)
    cuts = tuple(sorted({*ks, NDCG_AT}))
    metrics = [*(f"recall@{k}" for k in ks), *(f"ndcg@{k}" for k in cuts), *(f"hit_rate@{k}" for k in ks), "mrr"]
    measured: Measured = {name: {} for name in names}
    for slice_, mask in slices.items():
        present, owner = np.unique(users[mask], return_inverse=True)
        query_ids, query = np.unique(np.stack([owner, clocks[mask]], axis=1), axis=0, return_inverse=True)
        columns = [_per_user(places[name][mask], owner, query.ravel(), query_ids[:, 0], ks, cuts) for name in names]
        samples = mean_samples(np.concatenate(columns, axis=1), bootstrap.weights(len(present)))
        for index, name in enumerate(names):
            part = samples[index * len(metrics) : (index + 1) * len(metrics)]
            measured[name][slice_] = dict(zip(metrics, part, strict=True))
    return measured


def label_metrics(
    scores: Mapping[str, Any],
    chances: Mapping[str, Floats],
    labels: Bools,
    users: Ints,
    slices: Mapping[str, Bools],
    bootstrap: Bootstrap,
) -> Measured:
    """AUC, the mean of users' own AUCs, and calibration, over all labelled examples with their own features.

    `chances` are predicted probabilities, of those rankers that predict some.
    """
    measured: Measured = {name: {} for name in scores}
    for slice_, mask in slices.items():
        present, owner = np.unique(users[mask], return_inverse=True)
        weights = bootstrap.weights(len(present))
        for name, values in scores.items():
            alike, by_size = user_auc_samples(values[mask], labels[mask], owner, bootstrap.resamples, bootstrap.seed)
            measured[name][slice_] = {
                "auc": auc_sample(values[mask], labels[mask], owner, weights),
                "user_auc": alike,
                "user_auc_weighted": by_size,
                "calibration_error": calibration_sample(chances[name][mask], labels[mask], owner, weights)
                if name in chances
                else unmeasured(len(present), bootstrap.resamples),
            }
    return measured


def differences(measured: Measured, of: str) -> Measured:
    """Other ranker -> slice -> metric: `of` minus the other, paired over users."""
    mine = measured[of]
    return {
        name: {slice_: {m: mine[slice_][m] - sample for m, sample in row.items()} for slice_, row in slices.items()}
        for name, slices in measured.items()
        if name != of
    }


def published(measured: Measured) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Estimates as plain dicts."""
    return {
        name: {slice_: {m: sample.estimate().to_dict() for m, sample in row.items()} for slice_, row in slices.items()}
        for name, slices in measured.items()
    }


def _per_user(
    places: Ints, owner: Ints, query: Ints, query_owner: Ints, ks: tuple[int, ...], cuts: tuple[int, ...]
) -> Floats:
    """Shape (users, metrics): recall at every k, NDCG at every cut, hit rate at every k, MRR."""
    count = int(owner.max()) + 1 if len(owner) else 0
    recalled = np.stack([places <= k for k in ks], axis=1).astype(np.float64)
    best = best_places(places, query, len(query_owner))
    hits = np.stack([*(best <= k for k in ks), 1.0 / best], axis=1)
    by_query = np.concatenate([ndcg(places, query, cuts)[1], hits], axis=1)
    return np.concatenate([group_means(recalled, owner, count), group_means(by_query, query_owner, count)], axis=1)
