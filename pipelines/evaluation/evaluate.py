"""One split, measured: every ranker, every slice, every metric. Reading and writing are left to the job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import EvaluationOptions
from pipelines.errors import CorruptDatasetError
from pipelines.evaluation.assess import Bootstrap, differences, label_metrics, published, ranking_metrics
from pipelines.evaluation.calibration import curve_rows, probabilities, reliability
from pipelines.evaluation.metrics import Bools, Ints
from pipelines.evaluation.rankers import Ranker, Towers, dot_pairs
from pipelines.evaluation.ranking import Catalogue, rank_split
from pipelines.evaluation.slices import age_slices, cold_slices, user_slices
from pipelines.evaluation.timeline import History, codes, column

MODEL = "model"
"""The ranker that is judged; all others are baselines."""


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
    split: pa.Table,
    exists: pa.Table,
    rankers: Mapping[str, Ranker],
    catalogue: Catalogue,
    history: History,
    options: EvaluationOptions,
    seed: int,
) -> Result:
    """Rank the positives by the evaluation clock, score all labelled examples, and cut both into slices.

    `split` is in order of (event_time, example_id); `exists` has item_id and exists_from.
    """
    users, items = codes(split["user_id"], history.user_ids), codes(split["item_id"], history.item_ids)
    as_of = column(split, "as_of")
    past = history.past_positives(items, as_of)
    split = split.append_column("past_positives", pa.array(past))
    masks = _masks(split, exists, past, history.past_of_users(users, as_of), by_past=options.age_slices)
    bootstrap = Bootstrap(options.bootstrap, seed)

    vectors = {name: ranker.users(split) for name, ranker in rankers.items()}
    scores = {name: dot_pairs(vectors[name], ranker.items(split)) for name, ranker in rankers.items()}
    chances = {name: probabilities(scores[name] + r.bias) for name, r in rankers.items() if isinstance(r, Towers)}
    labels = split["label"].to_numpy() > 0.5
    judged = label_metrics(scores, chances, labels, users, masks, bootstrap)
    ranked = rank_split(
        split,
        vectors,
        rankers,
        catalogue,
        history,
        max_clocks=options.max_clocks,
        filter_seen=options.filter_seen,
        seed=seed,
    )
    rows = ranked.rows
    parts = {name: mask[rows] for name, mask in masks.items()}
    placed = ranking_metrics(ranked.places, users[rows], as_of[rows], parts, options.ks, bootstrap)
    measured = {name: {part: placed[name][part] | judged[name][part] for part in placed[name]} for name in rankers}
    return Result(
        published(measured),
        published(differences(measured, MODEL)) if MODEL in rankers else {},
        {name: curve_rows(reliability(predicted, labels)) for name, predicted in chances.items()},
        {"examples": split.num_rows, **ranked.counts},
    )


def clock_delay(examples: pa.Table) -> int:
    """known_by - as_of: one configured delay for all clocks, in microseconds.

    Raises CorruptDatasetError where examples disagree on it.
    """
    delays = pc.unique(pc.subtract(examples["known_by"], examples["as_of"])).to_pylist()
    if len(delays) > 1:
        raise CorruptDatasetError(
            f"known_by must be as_of plus one delay everywhere, got {sorted(delays)[:5]} us; run `thaw build_examples`"
        )
    return int(delays[0]) if delays else 0


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
