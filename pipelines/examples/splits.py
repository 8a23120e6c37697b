"""Train < validation < test, by global time. What becomes of the examples is left to `build`."""

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.config import SplitOptions, utc_microseconds
from pipelines.errors import ConfigError, InputError
from schemas.fitted import Cuts

_BUCKET_US = 3_600_000_000


def fit_cuts(labelled: DataFrame, options: SplitOptions) -> Cuts:
    """The cuts of labelled events: the configured times, or exact quantiles of their event_time.

    With shares v and t of n events in order of time, validation starts at the event of rank floor(n (1 - v - t)), test
    at that of rank floor(n (1 - t)). Raises InputError where nothing is labelled, ConfigError for impossible times.
    """
    hours = F.floor(F.col("event_time") / F.lit(_BUCKET_US)).cast("long").alias("hour")
    rows = labelled.groupBy(hours).agg(F.count("*").alias("n"), F.max("event_time").alias("last")).collect()
    if not rows:
        raise InputError("there must be events to label, found none; check labels.rule and the actions it names")
    end = max(row["last"] for row in rows)
    if options.validation_start is not None and options.test_start is not None:
        start = utc_microseconds(options.validation_start, "split.validation_start")
        test = utc_microseconds(options.test_start, "split.test_start")
        if start >= test:
            raise ConfigError(
                f"split.validation_start must lie before split.test_start, got {options.validation_start} and "
                f"{options.test_start}"
            )
        return Cuts(validation_start=start, test_start=test, end=end)
    counts = {row["hour"]: row["n"] for row in rows}
    total = sum(counts.values())
    held_out = options.validation_share + options.test_share
    return Cuts(
        validation_start=_time_of_rank(labelled, hours, counts, _rank(total, held_out)),
        test_start=_time_of_rank(labelled, hours, counts, _rank(total, options.test_share)),
        end=end,
    )


def split_of(event_time: Column, cuts: Cuts) -> Column:
    """train, validation or test."""
    return (
        F.when(event_time < cuts.validation_start, "train")
        .when(event_time < cuts.test_start, "validation")
        .otherwise("test")
    )


def is_mature(event_time: Column, label_time: Column, cuts: Cuts) -> Column:
    """Whether the label was known when its split was used: before the next split begins.

    The test's always, but in a log that was read as of a moment: its last events wait for labels that are not closed.
    """
    closed = F.lit(True) if cuts.as_of is None else label_time < cuts.as_of
    return (
        F.when(event_time < cuts.validation_start, label_time <= cuts.validation_start)
        .when(event_time < cuts.test_start, label_time <= cuts.test_start)
        .otherwise(closed)
    )


def in_training_period(cuts: Cuts) -> Column:
    """True for events that happened and were available before validation starts: what "cold" is judged by."""
    return (F.col("event_time") < cuts.validation_start) & (F.col("available_time") <= cuts.validation_start)


def _rank(total: int, held_out: float) -> int:
    return min(total - 1, int(total * (1 - held_out) + 1e-9))


def _time_of_rank(labelled: DataFrame, hour: Column, counts: dict[int, int], rank: int) -> int:
    """event_time of the given rank (from 0): the hour by its cumulative count, then the times of that hour alone."""
    hours = sorted(counts)
    ends = np.cumsum([counts[h] for h in hours])
    place = int(np.searchsorted(ends, rank, side="right"))
    within = rank - (int(ends[place - 1]) if place else 0)
    rows = labelled.where(hour == hours[place]).groupBy("event_time").count().collect()
    times = sorted((row["event_time"], row["count"]) for row in rows)
    place = int(np.searchsorted(np.cumsum([n for _, n in times]), within, side="right"))
    return int(times[place][0])
