"""Is the order of the records a shuffle? Tests of time and label along the global order, and between shards.

A shard is summed up in integers where it is written, and the sums are joined in the shards' order: the result does
not depend on who wrote what. Times enter in a fixed-point scale, 0 … SCALE from the earliest to the latest.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipelines.errors import ShuffleError

SCALE = 1 << 20
MAX_Z = 6.0
"""A shuffle exceeds this many standard deviations about twice in 10^9 tests."""


class Summary(BaseModel):
    """Consecutive records of the global order, summed up. Times are scaled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = 0
    time: int = 0
    time_squared: int = 0
    time_products: int = 0
    """Sum of each time multiplied by the one before it."""
    positives: int = 0
    runs: int = 0
    """Stretches of equal labels."""
    ends: tuple[int, bool, int, bool] = (0, False, 0, False)
    """First time and label, last time and label."""

    def then(self, other: "Summary") -> "Summary":
        """This stretch, followed by `other`."""
        if not self.rows or not other.rows:
            return self if self.rows else other
        (_, _, time, label), (next_time, next_label, _, _) = self.ends, other.ends
        return Summary(
            rows=self.rows + other.rows,
            time=self.time + other.time,
            time_squared=self.time_squared + other.time_squared,
            time_products=self.time_products + other.time_products + time * next_time,
            positives=self.positives + other.positives,
            runs=self.runs + other.runs - (label == next_label),
            ends=(*self.ends[:2], *other.ends[2:]),
        )


def summarise(times: NDArray[np.int64], labels: NDArray[np.float32], span: tuple[int, int]) -> Summary:
    """Sum up consecutive records. `span`: the earliest and latest of all times. A label over 0.5 is positive."""
    if not len(times):
        return Summary()
    earliest, latest = span
    scaled = ((times - earliest) / max(latest - earliest, 1) * SCALE).astype(np.int64)
    positive = labels > 0.5
    return Summary(
        rows=len(times),
        time=int(scaled.sum()),
        time_squared=int((scaled * scaled).sum()),
        time_products=int((scaled[1:] * scaled[:-1]).sum()),
        positives=int(positive.sum()),
        runs=1 + int((positive[1:] != positive[:-1]).sum()),
        ends=(int(scaled[0]), bool(positive[0]), int(scaled[-1]), bool(positive[-1])),
    )


def check_shuffle(split: str, shards: Sequence[Summary], max_correlation: float) -> dict[str, Any]:
    """The figures of a split, for the manifest. Raises ShuffleError where the order is no shuffle.

    `serial_correlation`: of event time at lag 1. The others are standard deviations from what a shuffle gives:
    `label_runs` (Wald and Wolfowitz, 1940), `shard_sizes` (chi-square, by Wilson and Hilferty's approximation),
    `shard_times` and `shard_labels` (the worst shard's mean time and share of positives).
    """
    whole = reduce(Summary.then, shards, Summary())
    limit = max(max_correlation, 4 / math.sqrt(max(whole.rows, 1)))
    figures = {
        "serial_correlation": _serial_correlation(whole),
        "label_runs": _runs_z(whole),
        "shard_sizes": _sizes_z([shard.rows for shard in shards]),
        "shard_times": max((abs(_time_z(shard, whole)) for shard in shards), default=0.0),
        "shard_labels": max((abs(_label_z(shard, whole)) for shard in shards), default=0.0),
    }
    for name, value in figures.items():
        allowed = limit if name == "serial_correlation" else MAX_Z
        if abs(value) > allowed:
            raise ShuffleError(
                f"{name} of the shuffled {split} records must be within ±{allowed:.4g}, got {value:.4g}: their order "
                "tells something of time or label. Check that example ids are unique and their hash is the order"
            )
    return {"rows": whole.rows, "positives": whole.positives, "limit": limit, "max_z": MAX_Z, **figures}


def _serial_correlation(whole: Summary) -> float:
    """Correlation of time with the time before it, n·Σxy − … in whole numbers; 0 where all times are one."""
    if whole.rows < 2:
        return 0.0
    first, last = whole.ends[0], whole.ends[2]
    pairs, before, after = whole.rows - 1, whole.time - last, whole.time - first
    spread_before = pairs * (whole.time_squared - last * last) - before * before
    spread_after = pairs * (whole.time_squared - first * first) - after * after
    if not spread_before or not spread_after:
        return 0.0
    return (pairs * whole.time_products - before * after) / math.sqrt(spread_before) / math.sqrt(spread_after)


def _runs_z(whole: Summary) -> float:
    """How far the number of label runs lies from that of a random order."""
    n, ones = whole.rows, whole.positives
    zeros = n - ones
    if n < 2 or not ones or not zeros:
        return 0.0
    expected = 1 + 2 * ones * zeros / n
    variance = (expected - 1) * (expected - 2) / (n - 1)
    return (whole.runs - expected) / math.sqrt(variance) if variance > 0 else 0.0


def _sizes_z(sizes: Sequence[int]) -> float:
    """How uneven the shards are: chi-square of their sizes, as a normal deviate. Only unevenness counts."""
    freedom, mean = len(sizes) - 1, sum(sizes) / max(len(sizes), 1)
    if freedom < 1 or mean < 5:
        return 0.0
    chi_square = sum((size - mean) ** 2 for size in sizes) / mean
    shrink = 2 / (9 * freedom)
    return float(max(((chi_square / freedom) ** (1 / 3) - 1 + shrink) / math.sqrt(shrink), 0.0))


def _time_z(shard: Summary, whole: Summary) -> float:
    """How far a shard's mean time lies from the overall one."""
    n, m = whole.rows, shard.rows
    variance = (n * whole.time_squared - whole.time**2) / n**2 if n else 0.0
    if not 0 < m < n or variance <= 0:
        return 0.0
    return (shard.time / m - whole.time / n) / math.sqrt(variance / m * (n - m) / (n - 1))


def _label_z(shard: Summary, whole: Summary) -> float:
    """How far a shard's share of positives lies from the overall one; 0 where too few are expected to tell."""
    n, m = whole.rows, shard.rows
    share = whole.positives / n if n else 0.0
    if not 0 < m < n or m * min(share, 1 - share) < 5:
        return 0.0
    return (shard.positives / m - share) / math.sqrt(share * (1 - share) / m * (n - m) / (n - 1))
