"""The table of a CiteULike reproduction: every model on both splits, seeds, intervals, paired differences.

CITEULIKE_SEEDS sets the number of seeds (5). CITEULIKE_VALIDATE=1 puts in place of each split a fold of its training
part, which is where everything was chosen.
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import _citeulike_baselines as baselines
from benchmarks._citeulike import Articles, Scores, Split, dot_scores, fold, measure, tfidf
from benchmarks._citeulike_factors import OPTIONS, als_factors
from benchmarks._citeulike_recipes import END_TO_END, RECIPES, RECONSTRUCTION
from benchmarks._citeulike_towers import sides_of, train_towers
from benchmarks._report import report
from pipelines.evaluation.intervals import mean_samples, user_weights

Values = npt.NDArray[np.float64]
Measured = dict[str, list[dict[str, Values]]]
"""Model -> of each seed, metric -> value of every user with test pairs."""
METRICS = ("recall@100", "recall@20", "ndcg@100")
RESAMPLES = 1000
CONTENT_KNN = "kNN on all content"
ALS, RIDGE = "implicit ALS", "ridge to ALS factors"
COMPARED = {
    "warm": ((END_TO_END, ALS), (RECONSTRUCTION, ALS), (END_TO_END, RECONSTRUCTION)),
    "cold": ((END_TO_END, CONTENT_KNN), (END_TO_END, RIDGE), (RECONSTRUCTION, RIDGE), (END_TO_END, RECONSTRUCTION)),
}
"""Pairs whose difference is told, user by user."""


def data_folder(name: str) -> Path:
    """The data set's folder under THAW_TEST_DATA; ends the benchmark where there is none."""
    folder = Path(os.environ.get("THAW_TEST_DATA", "")) / name
    if not (folder / "users.dat").exists():
        raise SystemExit(f"THAW_TEST_DATA must name a folder that has {name}/users.dat, got {folder}; set it")
    return folder


def run(name: str, articles: Articles, splits: Sequence[Split]) -> None:
    """Measure every model on both splits and print the table."""
    seeds = range(int(os.environ.get("CITEULIKE_SEEDS", "5")))
    validate = os.environ.get("CITEULIKE_VALIDATE", "") == "1"
    rows, figures, ratios = [], {}, {}
    for split in splits:
        measured = models_of(fold(split, 0) if validate else split, articles, seeds)
        weights = user_weights(len(measured["random"][0]["recall@100"]), RESAMPLES, seed=0)
        for model, runs in measured.items():
            rows.append(_row(split.name, model, runs, weights))
            figures[f"{split.name}_recall@100_{_key(model)}"] = round(_mean(runs), 4)
        rows += _differences(split.name, measured, weights)
        for peer in measured:
            if not peer.startswith("Thaw"):
                ratios[f"{split.name}_{_key(peer)}"] = round(_mean(measured[END_TO_END]) / _mean(measured[peer]), 3)
    header = ("split", "model", "recall@100", "95 %", "over seeds", *METRICS[1:])
    report(name, header, rows, ratios=ratios, figures=figures)


def models_of(split: Split, articles: Articles, seeds: range) -> Measured:
    """Every model's results on one split."""
    space = baselines.content_space(articles)
    dense = baselines.dense_content(space, baselines.SVD_WIDTH, seed=0)
    users, items = als_factors(split.train, OPTIONS, seed=0)
    measured: Measured = {}

    def add(model: str, scores: Scores, seed: int = 0) -> None:
        measured.setdefault(model, []).append(measure(scores, split, seed))
        value = measured[model][-1]["recall@100"].mean()
        print(f"{split.name}  {model}  seed {seed}  {value:.4f}", file=sys.stderr, flush=True)

    for seed in seeds:
        add("random", baselines.random_scores(split, seed), seed)
    if split.name == "warm":
        add("popularity", baselines.popularity(split))
        add("item-item kNN", baselines.item_knn(split))
        add(ALS, dot_scores(users, items))
    else:
        add("kNN on tags", baselines.content_knn(split, tfidf(articles.tags)))
        add(RIDGE, baselines.ridge_scores(split, dense, users, items))
    add(CONTENT_KNN, baselines.content_knn(split, space))
    sides = sides_of(split, dense, users, items)
    for model, recipe in RECIPES.items():
        for seed in seeds:
            started = time.monotonic()
            add(model, train_towers(sides, recipe, seed), seed)
            print(f"  trained in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return measured


def _row(split: str, model: str, runs: list[dict[str, Values]], weights: Values) -> tuple[object, ...]:
    """The mean over users and seeds; its interval over users; the spread of the seeds' means."""
    over_seeds = {name: np.mean([run[name] for run in runs], axis=0) for name in METRICS}
    estimate = mean_samples(over_seeds["recall@100"][:, None], weights)[0].estimate()
    spread = np.std([run["recall@100"].mean() for run in runs], ddof=1) if len(runs) > 1 else None
    return (
        split,
        model,
        f"{estimate.value:.4f}",
        f"{estimate.low:.4f} – {estimate.high:.4f}",
        "" if spread is None else f"± {spread:.4f} ({len(runs)})",
        *(f"{over_seeds[name].mean():.4f}" for name in METRICS[1:]),
    )


def _differences(split: str, measured: Measured, weights: Values) -> Iterator[tuple[object, ...]]:
    """Of models measured on the same users, each one's mean over seeds."""
    for ours, theirs in COMPARED[split]:
        means = [np.mean([run["recall@100"] for run in measured[model]], axis=0) for model in (ours, theirs)]
        estimate = mean_samples((means[0] - means[1])[:, None], weights)[0].estimate()
        gap = f"{estimate.low:+.4f} – {estimate.high:+.4f}"
        yield (split, f"({ours}) - ({theirs})", f"{estimate.value:+.4f}", gap, "", "", "")


def _mean(runs: list[dict[str, Values]]) -> float:
    return float(np.mean([run["recall@100"] for run in runs]))


def _key(model: str) -> str:
    return re.sub("[^a-z]+", "_", model.lower())
