"""The point-in-time join of behaviour: statistics and recent positives as of each row's clock. [spark around numpy]

The clocks are `clock`'s, what is in sight `windows`', the arithmetic of each kind of statistic `tallies`'.
"""

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.config import PreferenceOptions
from pipelines.features import bag_names
from pipelines.preferences.clock import CLOCK
from pipelines.preferences.sweep import EVENT, sweep
from pipelines.preferences.sweepers import Recent, Totals
from pipelines.preferences.tallies import (
    EVERY,
    Tallies,
    choice_bits,
    fixed_weight,
    statistic_columns,
    tallies,
)

_SEEN = {"max_event_time": "seen_event_time", "max_available_time": "seen_available_time"}
"""Provenance column -> what one sweep saw."""


def attach_statistics(
    queries: DataFrame,
    events: DataFrame | None,
    *,
    key: str,
    entity: str,
    options: PreferenceOptions,
    priors: Mapping[str, float],
    clock: tuple[str, str] = CLOCK,
) -> DataFrame:
    """Adds float64 columns `statistic_names(entity, options)` as of each row's `clock`: as_of and known_by.

    `events` has the columns of INTERACTIONS and a string column `key`; None: the queries are the events, half the work
    where each event's own statistics are asked for. In `queries`, `key` is a string, or a list of
    strings whose events are pooled: over its distinct values, sums are added before any division and the latest of
    the last times counts. All statistics are null where no event of the key is in sight, however old. A rate or mean
    with nothing to divide is its prior, or null where prior_strength is 0.

    The nullable provenance columns max_event_time and max_available_time, made where absent, become the largest of
    all events of the key in sight: even one older than every window decides between 0 and null.
    """
    found = tallies(options)
    if isinstance(queries.schema[key].dataType, T.ArrayType):
        if events is None:
            raise ValueError(f"events must be given where keys are lists, as `{key}` is")
        lists = queries.select(key, *clock).where(F.size(key) > 0).distinct()
        singles = lists.withColumn("pooled_key", F.explode(F.array_distinct(key)))
        swept = _sweep_tallies(singles, events.withColumn("pooled_key", F.col(key)), "pooled_key", found, clock)
        tallied = swept.groupBy(key, *clock).agg(
            *(F.sum(name).alias(name) for name in found.sum_names),
            *(F.max(name).alias(name) for name in (*found.last_names, *_SEEN.values())),
        )
        swept = queries.join(tallied, [key, *clock], how="left")
    else:
        swept = _sweep_tallies(queries, events, key, found, clock)
    statistics = statistic_columns(found, entity, options, priors, clock[0])
    return _with_provenance(swept.select(*queries.columns, *_SEEN.values(), *statistics), queries.columns)


def attach_recent(queries: DataFrame, positives: DataFrame, *, options: PreferenceOptions) -> DataFrame:
    """Adds list<string> columns `bag_names(options)`: values over the user's latest `recent_length` positives in sight.

    `positives` has the columns of INTERACTIONS and those of `options.recent` (a string or a list of strings) as they
    were at the event's time. Latest first, ties by item_id, then available_time; values may repeat; null where no
    positive is in sight. The provenance columns become at least the largest times of those positives.
    """
    if not options.recent:
        return queries
    content = [name for name in options.recent if name != "item_id"]

    added = [T.StructField(name, T.ArrayType(T.StringType())) for name in bag_names(options)]
    added += [T.StructField(name, T.LongType()) for name in _SEEN.values()]
    narrow = positives.select("user_id", "event_time", "available_time", "item_id", *content)
    swept = sweep(queries, narrow, key="user_id", added=T.StructType(added), sweeper=Recent(options))
    return _with_provenance(swept, queries.columns)


def _sweep_tallies(
    rows: DataFrame, events: DataFrame | None, key: str, found: Tallies, clock: tuple[str, str]
) -> DataFrame:
    """`rows` with the columns of `found` and the largest times in sight."""
    needed = {} if found.choices == (EVERY,) else {"choices": choice_bits(found.choices)}
    needed |= {"weight": fixed_weight()} if found.weighed else {}
    needed |= {f"of_{distinct.of}": F.col(distinct.of) for distinct in found.distincts}
    if events is None:
        rows = rows.withColumns({EVENT + name: column for name, column in needed.items()})
    else:
        times = ("event_time", "available_time")
        events = events.select(key, *times, *(column.alias(name) for name, column in needed.items()))
    names = (*found.sum_names, *found.last_names, *_SEEN.values())
    added = T.StructType([T.StructField(name, T.LongType()) for name in names])
    return sweep(rows, events, key=key, added=added, sweeper=Totals(found), clock=clock)


def _with_provenance(swept: DataFrame, before: Sequence[str]) -> DataFrame:
    """The columns `before`, provenance raised to what was seen or, where it is new, after them; then what was added."""
    added = [name for name in swept.columns if name not in (*before, *_SEEN.values())]
    return swept.select(
        *(F.greatest(name, _SEEN[name]).alias(name) if name in _SEEN else F.col(name) for name in before),
        *(F.col(seen).alias(name) for name, seen in _SEEN.items() if name not in before),
        *added,
    )
