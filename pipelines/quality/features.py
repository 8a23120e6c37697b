"""The gate behind the join: what built features must look like, checked by Great Expectations on their profile.

What is checked derives from each feature's kind, not from its place, so that a new kind or entity is checked as soon as
it has a name. The profile is small (a row per feature, period and split), so that no expectation costs a Spark job.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Config, StatisticOptions
from pipelines.errors import QualityGateError
from pipelines.features import feature_set, windows_of
from pipelines.preferences.tallies import WEIGHT_SCALE
from pipelines.quality.drift import Drift, drifts
from pipelines.quality.gate import validate, verdicts
from schemas.preferences import statistic_name
from schemas.to_expectations import LARGEST, range_suite

Range = tuple[float | None, float | None]
MISSING, DRIFT = "missing share", "drift"
_TOLD = 20


@dataclass(frozen=True)
class Features:
    """What the gate found, where it let the features pass."""

    outcome: Any
    """Great Expectations' validation result."""
    notes: tuple[str, ...]
    facts: Mapping[str, Any]
    report: Mapping[str, Any]
    """{"expectations": [{"expectation", "success"}],
    "features": {name: {"missing_share", "lowest", "highest", "mean"}},
    "drift": [{"feature", "measure", "since", "value", "usual", "score"}]}: those that drifted, farthest first."""


def check_features(profile: pa.Table, config: Config) -> Features:
    """Hold the profile (`schemas.profile.PROFILE`) against what features may be.

    Raises QualityGateError naming each feature that may not be as it is, with its value and when.
    """
    strayed = drifts(profile, config.features.drift_periods)
    shapes = _shapes(profile)
    extremes = _extremes(profile)
    columns: dict[str, Any] = dict(extremes)
    numbers = {name: ends for name, ends in bounds(config).items() if name in columns}
    shares, largest = _share_limits(config), config.features.max_drift
    drifting = {} if largest is None else {drift.feature: drift for drift in reversed(strayed)}  # the farthest is last
    columns |= {f"{name} {MISSING}": shapes[name]["missing_share"] for name in shares}
    columns |= {f"{name} {DRIFT}": drift.score for name, drift in drifting.items()}
    ranges: dict[str, Range] = {**numbers, **{f"{name} {MISSING}": (None, share) for name, share in shares.items()}}
    ranges |= {f"{name} {DRIFT}": (None, largest) for name in drifting}
    frame = pd.DataFrame(columns, index=extremes.index if len(extremes) else [0])
    _, outcome = validate(frame, range_suite("features", ranges), "BASIC")
    failed = dict.fromkeys(r.expectation_config.kwargs["column"] for r in outcome.results if not r.success)
    broken = [
        *(_out_of_range(name, *ends, profile) for name, ends in numbers.items() if name in failed),
        *(
            f"{name} must be missing in at most {share:.1%} of the examples (features.max_missing_share), got "
            f"{shapes[name]['missing_share']:.1%}; mend its source, or allow more"
            for name, share in shares.items()
            if f"{name} {MISSING}" in failed
        ),
        *(
            f"{name} must not drift by more than {largest:g} (features.max_drift), got {drift}; see what its source "
            "did then, or allow more"
            for name, drift in drifting.items()
            if f"{name} {DRIFT}" in failed
        ),
    ]
    if broken:
        raise QualityGateError("\n".join(broken))
    return _told(outcome, shapes, [drift for drift in strayed if drift.score > config.features.drift_warning])


def bounds(config: Config) -> dict[str, tuple[float, float]]:
    """Smallest and largest possible value of every number among the features, by its kind; all are finite."""
    features = feature_set(config)
    content = {*features.user.content, *features.item.content}
    suffixes = {
        statistic_name("", statistic.name, statistic.kind, window): statistic
        for statistic in config.preferences.statistics
        for window in windows_of(statistic, config.preferences)
    }
    found: dict[str, tuple[float, float]] = {}
    for name in (column.name for column in features.columns if column.type == "float64"):
        # `_click_rate_7d` ends `item_x_click_rate_7d` too, where a statistic is called x_click: the longest is meant.
        ending = max((suffix for suffix in suffixes if name.endswith(suffix)), key=len, default=None)
        known = None if ending is None or name in content else suffixes[ending]
        low, high = _of_kind(known, config.quality.weight_range) if known else (None, None)
        found[name] = (-LARGEST if low is None else low, LARGEST if high is None else high)
    return found


def _of_kind(statistic: StatisticOptions, weights: tuple[float, float] | None) -> Range:
    """What values a statistic can have, where the log's weights lie in `weights`."""
    if statistic.kind == "mean":
        return (weights[0] - 1 / WEIGHT_SCALE, weights[1] + 1 / WEIGHT_SCALE) if weights else (None, None)
    if statistic.kind == "sum":
        return (0.0, None) if weights and weights[0] >= 0 else (None, None)
    if statistic.kind == "rate":
        # A click may fall into the window and its impression before it: only what counts itself is at most 1.
        among = statistic.of_actions is None or set(statistic.actions or ("",)) <= set(statistic.of_actions)
        return (0.0, 1.0 if among else None)
    return (0.0, None)


def _share_limits(config: Config) -> dict[str, float]:
    """Feature -> its largest missing share; the smallest of all patterns that it matches."""
    limits: dict[str, float] = {}
    for pattern, share in config.features.max_missing_share.items():
        for name in fnmatch.filter([column.name for column in feature_set(config).columns], pattern):
            limits[name] = min(share, limits.get(name, share))
    return limits


def _extremes(profile: pa.Table) -> pd.DataFrame:
    """A column per feature that holds its extremes of every period and split: it lies in a range where all values do.

    Sums are exact, quotients are not: the last digits are rounded off.
    """
    rows = profile.filter(pc.is_valid(profile["lowest"])).select(["feature", "lowest", "highest"]).to_pandas()
    by_feature = rows.groupby("feature", sort=False)
    return pd.DataFrame(
        {name: pd.Series(np.round(found[["lowest", "highest"]].to_numpy().ravel(), 9)) for name, found in by_feature}
    )


def _shapes(profile: pa.Table) -> dict[str, dict[str, Any]]:
    """Each feature over all periods and splits."""
    table = profile.to_pandas()
    table["values"] = table["rows"] - table["missing"]
    table["sum"] = table["values"] * table["mean"].fillna(0.0)
    found = table.groupby("feature").agg(
        rows=("rows", "sum"), values=("values", "sum"), total=("sum", "sum"), lowest=("lowest", "min"),
        highest=("highest", "max"),
    )  # fmt: skip
    shapes = {}
    for name, row in found.iterrows():
        measured = not np.isnan(row["lowest"])
        shapes[str(name)] = {
            "missing_share": float((row["rows"] - row["values"]) / row["rows"]),
            "lowest": _rounded(row["lowest"]) if measured else None,
            "highest": _rounded(row["highest"]) if measured else None,
            "mean": _rounded(row["total"] / row["values"]) if measured else None,
        }
    return shapes


def _out_of_range(name: str, low: float, high: float, profile: pa.Table) -> str:
    """What is wrong with a number that lies outside: the worst value, and when."""
    rows = profile.filter((pc.field("feature") == name) & pc.field("lowest").is_valid()).to_pylist()
    ends = [(end, row) for row in rows for end in (row["lowest"], row["highest"])]
    value, row = max(ends, key=lambda pair: max(low - pair[0], pair[0] - high))
    day = np.datetime64(row["since"], "us").astype("datetime64[D]")
    rules = [f"at least {low:g}"] * (low > -LARGEST) + [f"at most {high:g}"] * (high < LARGEST)
    return (
        f"{name} must be {' and '.join(rules) or 'finite'}, got {value:g} in the period from {day} ({row['split']}); "
        "nothing was published: correct the stage or the source that made it, then build the examples again"
    )


def _told(outcome: Any, shapes: Mapping[str, dict[str, Any]], strayed: Sequence[Drift]) -> Features:
    """Notes, facts and report of features that pass."""
    absent = [name for name, shape in shapes.items() if shape["missing_share"] == 1]
    notes = [f"{name} is missing in every example: nothing can be learned from it" for name in absent]
    drifted = list(dict.fromkeys(drift.feature for drift in strayed))
    if drifted:
        count = f"{len(drifted)} features drift" if len(drifted) > 1 else "1 feature drifts"
        notes.append(f"{count} by more than features.drift_warning; the farthest is {strayed[0]}")
    listed = [
        {
            "feature": drift.feature, "measure": drift.measure, "since": drift.since,
            "value": _rounded(drift.value), "usual": _rounded(drift.usual), "score": _rounded(drift.score),
        }
        for drift in strayed[:_TOLD]
    ]  # fmt: skip
    found = verdicts(outcome)
    facts = {"features": len(shapes), "expectations": len(found), "missing_everywhere": absent, "drifted": len(drifted)}
    return Features(outcome, tuple(notes), facts, {"expectations": found, "features": shapes, "drift": listed})


def _rounded(value: float) -> float:
    """Six digits: what people read."""
    return float(f"{value:.6g}")
