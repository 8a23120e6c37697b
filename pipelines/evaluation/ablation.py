"""Variants of a configuration, one thing changed at a time, and what they are worth beside it. [numpy]

A trial is one training of a variant with one seed, measured on the split that choices are made on. Trials of all
variants are resampled with the same users, so that a variant minus the default is paired; seeds are averaged first.
How a trial is trained is left to the job.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from pipelines.config import AblationOptions, Config, changed
from pipelines.errors import ConfigError
from pipelines.evaluation.intervals import LEVEL, Estimate, Sample
from pipelines.evaluation.summary import figure, headline_metrics, label, signed

DEFAULT = "default"
"""The configuration as it is: what every variant is compared with."""

Samples = dict[str, dict[str, Sample]]
"""Slice -> metric -> sample."""


@dataclass(frozen=True)
class Variant:
    """A configuration under a name, and what it changes."""

    name: str
    changes: dict[str, Any]
    config: Config


def variants_of(config: Config) -> list[Variant]:
    """The default, then every value of `vary`, then `variants`. Raises ConfigError, naming the variant, where one
    cannot be, or where there is none."""
    options: AblationOptions = config.ablation
    asked = {f"{key}={_text(value)}": {key: value} for key, values in options.vary.items() for value in values}
    if taken := sorted(set(asked) & set(options.variants) | {DEFAULT} & set(options.variants)):
        raise ConfigError(f"ablation.variants must have names of their own, got `{taken[0]}`; choose another")
    asked |= options.variants
    if not asked:
        raise ConfigError(
            "an ablation must have something to vary, got nothing; add --vary model.preference_dropout=0,0.5,1, "
            "or set ablation.vary"
        )
    found = [Variant(DEFAULT, {}, config)]
    for name, changes in asked.items():
        try:
            found.append(
                Variant(name, {key: _plain(value) for key, value in changes.items()}, changed(config, changes))
            )
        except ConfigError as error:
            raise ConfigError(f"the variant `{name}` must be a valid configuration: {error}") from None
    for variant in found:
        if variant.config.training.start_from:
            raise ConfigError(
                "variants must be trained from scratch, because a model they start from was trained one way, got "
                f"training.start_from {variant.config.training.start_from}; leave it out"
            )
    return found


def _plain(value: Any) -> Any:
    """As JSON has it: a date of YAML is text."""
    return json.loads(json.dumps(value, default=str))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def to_bytes(samples: Samples) -> bytes:
    """Samples as an .npy of (rows, 1 + resamples): equal samples make equal bytes. `rows_of` says what each row is."""
    rows = [[s.value, *s.resampled] for metrics in samples.values() for s in metrics.values()]
    out = io.BytesIO()
    np.save(out, np.array(rows, np.float64), allow_pickle=False)
    return out.getvalue()


def rows_of(samples: Samples) -> list[list[Any]]:
    """[slice, metric, users] of each row."""
    return [[part, metric, s.users] for part, metrics in samples.items() for metric, s in metrics.items()]


def from_bytes(content: bytes, rows: Sequence[Sequence[Any]]) -> Samples:
    """What `to_bytes` wrote."""
    found: Samples = {}
    for (part, metric, users), values in zip(rows, np.load(io.BytesIO(content), allow_pickle=False), strict=True):
        found.setdefault(part, {})[metric] = Sample(float(values[0]), values[1:], users)
    return found


def compared(trials: Mapping[str, Sequence[Samples]], *, of_seeds: bool = False) -> dict[str, dict[str, Any]]:
    """Variant -> {metrics, differences}: slice -> metric -> {value, low, high, n, sd}, of the mean over its seeds.

    `trials` has a variant's seeds in the same order everywhere, the default's among them. The interval is over users
    or images and, with `of_seeds`, over seeds too; `sd` is the standard deviation over seeds. A difference is the
    variant minus the default, by user or image and by seed.
    """
    return {
        name: {
            "metrics": _over_seeds(seeds, of_seeds),
            "differences": _over_seeds([_minus(a, b) for a, b in zip(seeds, trials[DEFAULT], strict=True)], of_seeds),
        }
        for name, seeds in trials.items()
    }


def _minus(first: Samples, second: Samples) -> Samples:
    return {part: {m: s - second[part][m] for m, s in metrics.items()} for part, metrics in first.items()}


def _over_seeds(seeds: Sequence[Samples], of_seeds: bool) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        part: {metric: _entry([samples[part][metric] for samples in seeds], of_seeds) for metric in metrics}
        for part, metrics in seeds[0].items()
    }


def _entry(seeds: Sequence[Sample], of_seeds: bool) -> dict[str, Any]:
    values = [seed.value for seed in seeds]
    averaged = Sample(mean(values), np.mean([seed.resampled for seed in seeds], axis=0), seeds[0].users)
    spread = stdev(values) if len(values) > 1 and not np.isnan(values).any() else None
    estimate = averaged.estimate()
    if of_seeds and spread is not None:
        estimate = _widened(estimate, spread, len(values))
    return {**estimate.to_dict(), "sd": None if spread is None else round(spread, 6)}


def _widened(estimate: Estimate, spread: float, seeds: int) -> Estimate:
    """The interval with what seeds add to it: two independent causes, whose half-widths add up as squares.

    Student's t, because seeds are few: of three with a deviation of 0.001 a mean is known to 0.0025.
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate
    value, half = estimate.value, float(student.ppf((1 + LEVEL) / 2, seeds - 1)) * spread / seeds**0.5
    low, high = (math.hypot(end - value, half) for end in (estimate.low, estimate.high))
    return Estimate(value, round(value - low, 6), round(value + high, 6), estimate.n)


def told(results: Mapping[str, Any]) -> list[str]:
    """Recall and NDCG of all and of new items, or accuracy and loss of images: a line a variant, with its distance from
    the default."""
    rows = [row for row in results["variants"] if row["name"] == DEFAULT or not row["is_default"]]
    metrics = [m for m in headline_metrics(rows[0]["metrics"]["all"]) if m != "auc"]
    parts = [part for part in ("all", "cold_item") if part in rows[0]["metrics"]]
    cells = [(p, m) for m in metrics for p in parts if rows[0]["metrics"][p][m]["value"] is not None]
    count = len(results["seeds"])
    title = f"{results['split']}, {count} seed{'s' if count > 1 else ''}"
    wide = max(len(title), *(len(row["name"]) for row in rows)) + 2
    heads = "".join(f"{f'{metric}, {label(part)}':<34}" for part, metric in cells)
    lines = [title.ljust(wide) + heads.rstrip()]
    for row in rows:
        texts = []
        for part, metric in cells:
            difference = row["differences"][part][metric]
            beside = "" if row["name"] == DEFAULT or difference["value"] is None else f" {signed(difference)}"
            texts.append((figure(row["metrics"][part][metric]) + beside).ljust(34))
        lines.append((row["name"].ljust(wide) + "".join(texts)).rstrip())
    return lines
