"""How far each feature strayed from what it was before, by period. Whether that is too far is left to `features`.

Robust, because one odd day must not hide the next: distance from the median of the periods before, over their median
absolute deviation and what chance does to a period of so few users or items.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

MIN_ENTITIES = 30
"""A period of fewer users, items or values is not judged, and not remembered."""
_MAD_TO_STD = 1.4826
"""For normal values: standard deviation over median absolute deviation."""
_FLOOR = 0.01
"""What counts as no change at all, of a standard deviation or of all examples, however steady a feature was."""


@dataclass(frozen=True)
class Drift:
    """A feature's farthest period: where its mean or missing share was, and what was usual."""

    feature: str
    measure: str
    """`mean` (of a list: of its length) or `missing share`."""
    since: int
    """The period's beginning, UTC microseconds."""
    value: float
    usual: float
    score: float
    """Distance over the usual spread."""

    def __str__(self) -> str:
        day = np.datetime64(self.since, "us").astype("datetime64[D]")
        return (
            f"{self.feature}: {self.measure} {self.value:.4g} in the period from {day}, usual {self.usual:.4g} "
            f"(drift {self.score:.3g})"
        )


def drifts(profile: pa.Table, periods: int) -> list[Drift]:
    """The farthest period of each feature and measure, farthest first; `periods` are remembered.

    `profile`: as `schemas.profile.PROFILE`, splits of one period taken together.
    """
    found = []
    for feature in profile["feature"].unique().to_pylist():
        rows = profile.filter(pa.compute.equal(profile["feature"], feature))
        since, group = np.unique(rows["since"].to_numpy(), return_inverse=True)
        total, missing = (np.bincount(group, rows[name].to_numpy()) for name in ("rows", "missing"))
        entities = np.zeros(len(since), np.int64)
        np.maximum.at(entities, group, rows["entities"].to_numpy())
        share = missing / total
        measures = {"missing share": (share, np.sqrt(share * (1 - share)), entities, 1.0)}
        if rows["mean"].null_count < rows.num_rows:
            mean, std, there = _pooled(rows, group, total - missing)
            measures["mean"] = (mean, std, np.minimum(entities, there), 0.0)
        for measure, (values, spread, size, unit) in measures.items():
            enough = size >= MIN_ENTITIES
            worst = _farthest(values[enough], spread[enough], size[enough], periods, unit)
            if worst is not None:
                place, usual, score = worst
                found.append(
                    Drift(feature, measure, int(since[enough][place]), float(values[enough][place]), usual, score)
                )
    return sorted(found, key=lambda drift: (-drift.score, drift.feature, drift.measure))


def _pooled(rows: pa.Table, group: Any, there: Any) -> tuple[Any, Any, Any]:
    """Mean, deviation and number of values by period, of its splits'."""
    weight = rows["rows"].to_numpy() - rows["missing"].to_numpy()
    mean, std = (rows[name].fill_null(0.0).to_numpy() for name in ("mean", "std"))
    many = np.maximum(there, 1)
    pooled = np.bincount(group, weight * mean) / many
    return pooled, np.sqrt(np.bincount(group, weight * (std**2 + (mean - pooled[group]) ** 2)) / many), there


def _farthest(values: Any, spread: Any, size: Any, periods: int, unit: float) -> tuple[int, float, float] | None:
    """(place, usual, score) of the value farthest from the `periods` before it; None where there are too few.

    Shapes (n,). `unit`: what the floor is a share of, beside spread and usual value.
    """
    if len(values) <= periods:
        return None
    before = np.lib.stride_tricks.sliding_window_view(values, periods)[:-1]
    usual = np.median(before, axis=1)
    deviation = _MAD_TO_STD * np.median(np.abs(before - usual[:, None]), axis=1)
    past = np.median(np.lib.stride_tricks.sliding_window_view(spread, periods)[:-1], axis=1)
    typical = np.maximum(past, spread[periods:])
    floor = _FLOOR * np.maximum(np.maximum(np.abs(usual), typical) * (unit == 0), unit)
    noise = np.hypot(deviation, typical / np.sqrt(size[periods:]))
    distance = np.abs(values[periods:] - usual)
    scores = np.divide(distance, np.maximum(noise, floor), out=np.zeros_like(distance), where=distance > 0)
    place = int(np.argmax(scores))
    return place + periods, float(usual[place]), float(scores[place])
