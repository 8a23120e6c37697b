"""One split, measured: every ranker, every slice, every metric. Reading and writing are left to the job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.config import EvaluationOptions
from pipelines.evaluation.assess import Bootstrap, Measured, differences, label_metrics, published, ranking_metrics
from pipelines.evaluation.calibration import curve_rows, reliability
from pipelines.evaluation.inputs import Measurable
from pipelines.evaluation.metrics import Bools, Ints
from pipelines.evaluation.rankers import Ranker, Towers, dot_pairs
from pipelines.evaluation.ranking import rank_split
from pipelines.evaluation.slices import age_slices, cold_slices, user_slices
from pipelines.evaluation.timeline import codes, column

MODEL = "model"
"""The ranker that is judged; all others are baselines."""
AGAINST = "against"
"""The registered model that it is compared with."""


@dataclass(frozen=True)
class Sampled:
    """One split as measured: every metric with its resamples, for further comparisons."""

    measured: Measured
    reliability: dict[str, list[dict[str, Any]]]
    counts: dict[str, int]


@dataclass(frozen=True)
class Result:
    """What one split says: ranker -> slice -> metric -> {value, low, high, n}, and what was counted."""

    measured: dict[str, Any]
    differences: dict[str, Any]
    """Baseline -> slice -> metric: the model's value minus the baseline's, paired over users."""
    reliability: dict[str, list[dict[str, Any]]]
    """Ranker that predicts probabilities -> bins of all examples: {predicted, observed, n}."""
    counts: dict[str, int]


def measure_split(
    data: Measurable, name: str, rankers: Mapping[str, Ranker], options: EvaluationOptions, seed: int
) -> Result:
    """What `sample_split` measures, as it is published."""
    found = sample_split(data, name, rankers, options, seed)
    return Result(
        published(found.measured),
        published(differences(found.measured, MODEL)) if MODEL in rankers else {},
        found.reliability,
        found.counts,
    )


def sample_split(
    data: Measurable, name: str, rankers: Mapping[str, Ranker], options: EvaluationOptions, seed: int
) -> Sampled:
    """Rank the positives of a split by the evaluation clock, score all its labelled examples, and cut both into slices.

    The split is in order of (event_time, example_id). Equal data and seed give equal resamples, whatever is ranked.
    """
    split, history = data.splits[name], data.history
    users, items = codes(split["user_id"], history.user_ids), codes(split["item_id"], history.item_ids)
    as_of = column(split, "as_of")
    past = history.past_positives(items, as_of)
    split = split.append_column("past_positives", pa.array(past))
    masks = _masks(split, data.exists, past, history.past_of_users(users, as_of), by_past=options.age_slices)
    bootstrap = Bootstrap(options.bootstrap, seed)

    vectors = {name: ranker.users(split) for name, ranker in rankers.items()}
    scores = {name: dot_pairs(vectors[name], ranker.items(split)) for name, ranker in rankers.items()}
    chances = {name: r.probabilities(scores[name]) for name, r in rankers.items() if isinstance(r, Towers)}
    labels = split["label"].to_numpy() > 0.5
    judged = label_metrics(scores, chances, labels, users, masks, bootstrap)
    ranked = rank_split(
        split,
        vectors,
        rankers,
        data.catalogue,
        history,
        max_clocks=options.max_clocks,
        filter_seen=options.filter_seen,
        seed=seed,
    )
    rows = ranked.rows
    parts = {name: mask[rows] for name, mask in masks.items()}
    placed = ranking_metrics(ranked.places, users[rows], as_of[rows], parts, options.ks, bootstrap)
    measured = {name: {part: placed[name][part] | judged[name][part] for part in placed[name]} for name in rankers}
    return Sampled(
        measured,
        {name: curve_rows(reliability(predicted, labels)) for name, predicted in chances.items()},
        {"examples": split.num_rows, **ranked.counts},
    )


def _masks(split: pa.Table, exists: pa.Table, past: Ints, own_past: Ints, *, by_past: bool) -> dict[str, Bools]:
    masks = cold_slices(_flags(split, "cold_user"), _flags(split, "cold_item"))
    if by_past:
        known = codes(split["item_id"], exists["item_id"].combine_chunks())
        times = column(split, "event_time")
        born = np.append(column(exists, "exists_from"), 0)[known]
        masks |= age_slices(np.where(known >= 0, times - born, 0), past) | user_slices(own_past)
    return masks


def _flags(table: pa.Table, name: str) -> Bools:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), bool)
