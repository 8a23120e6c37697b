"""The point-in-time join of behaviour: statistics and recent positives as of each row's clock. [spark around numpy]

The clocks are `clock`'s, what is in sight `windows`', the arithmetic of each kind of statistic `tallies`'.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.config import PreferenceOptions
from pipelines.content.as_of import attach_content
from pipelines.features import bag_names
from pipelines.preferences.bags import alphabetical, bags, largest
from pipelines.preferences.clock import CLOCK
from pipelines.preferences.sweep import sweep
from pipelines.preferences.tallies import Tallies, choice_bits, fixed_weight, statistic_columns, tallies
from pipelines.preferences.windows import NONE, Events, Queries, views

_SEEN = {"max_event_time": "seen_event_time", "max_available_time": "seen_available_time"}
"""Provenance column -> what one sweep saw."""


def attach_statistics(
    queries: DataFrame,
    events: DataFrame,
    *,
    key: str,
    entity: str,
    options: PreferenceOptions,
    priors: Mapping[str, float],
) -> DataFrame:
    """Adds float64 columns `statistic_names(entity, options)` as of each row's (as_of, known_by).

    `events` has the columns of INTERACTIONS and a string column `key`. In `queries`, `key` is a string, or a list of
    strings whose events are pooled: over its distinct values, sums are added before any division and the latest of
    the last times counts. All statistics are null where no event of the key is in sight, however old. A rate or mean
    with nothing to divide is its prior, or null where prior_strength is 0.

    The nullable provenance columns max_event_time and max_available_time, made where absent, become the largest of
    all events of the key in sight: even one older than every window decides between 0 and null.
    """
    found = tallies(options)
    if isinstance(queries.schema[key].dataType, T.ArrayType):
        lists = queries.select(key, *CLOCK).where(F.size(key) > 0).distinct()
        singles = lists.withColumn("pooled_key", F.explode(F.array_distinct(key)))
        swept = _sweep_tallies(singles, events.withColumnRenamed(key, "pooled_key"), "pooled_key", found)
        tallied = (
            singles.join(swept, ["pooled_key", *CLOCK], how="inner")
            .groupBy(key, *CLOCK)
            .agg(
                *(F.sum(name).alias(name) for name in found.sum_names),
                *(F.max(name).alias(name) for name in (*found.last_names, *_SEEN.values())),
            )
        )
    else:
        tallied = _sweep_tallies(queries, events, key, found)
    statistics = tallied.select(key, *CLOCK, *_SEEN.values(), *statistic_columns(found, entity, options, priors))
    return _joined(queries, statistics, key)


def attach_recent(queries: DataFrame, positives: DataFrame, *, options: PreferenceOptions) -> DataFrame:
    """Adds list<string> columns `bag_names(options)`: values over the user's latest `recent_length` positives in sight.

    `positives` has the columns of INTERACTIONS and those of `options.recent` (a string or a list of strings) as they
    were at the event's time. Latest first, ties by item_id, then available_time; values may repeat; null where no
    positive is in sight. The provenance columns become at least the largest times of those positives.
    """
    if not options.recent:
        return queries
    content = [name for name in options.recent if name != "item_id"]

    def compute(events: Events, columns: pa.StructArray, queries: Queries, keys: int) -> list[pa.Array]:
        latest = np.full((len(queries.key), options.recent_length), NONE)
        # Of equal times the smaller item_id counts as the later, of one item the event available first.
        _, arrival = np.unique(events.available_time, return_inverse=True)
        ordered = events._replace(tie=-(alphabetical(columns.field("item_id")) * len(arrival) + arrival))
        for view in views(ordered, queries, keys):
            latest[view.rows] = view.latest(options.recent_length)
        lists = [bags(columns.field(name), latest) for name in options.recent]
        return [*lists, largest(events.event_time, latest), largest(events.available_time, latest)]

    added = [T.StructField(name, T.ArrayType(T.StringType())) for name in bag_names(options)]
    added += [T.StructField(name, T.LongType()) for name in _SEEN.values()]
    narrow = positives.select("user_id", "event_time", "available_time", "item_id", *content)
    return _joined(
        queries, sweep(queries, narrow, key="user_id", added=T.StructType(added), compute=compute), "user_id"
    )


def category_events(interactions: DataFrame, items: DataFrame, column: str) -> DataFrame:
    """Events once per category of their item, by its content at the event's time: adds the string `item_<column>`.

    `items` is the versioned content table; `column` is a string or a list of strings in it. Events of an item without
    a category are left out.
    """
    key = f"item_{column}"
    events = attach_content(interactions, items, id="item_id", time="event_time", columns={column: key})
    if isinstance(items.schema[column].dataType, T.ArrayType):
        events = events.withColumn(key, F.explode(F.array_distinct(key)))
    return events.where(F.col(key).isNotNull())


def _sweep_tallies(queries: DataFrame, events: DataFrame, key: str, found: Tallies) -> DataFrame:
    """The distinct moments of `queries` with the columns of `found` and the largest times in sight."""

    def compute(events: Events, columns: pa.StructArray, queries: Queries, keys: int) -> list[pa.Array]:
        return _tally(found, events, columns, queries, keys)

    narrow = events.select(
        key,
        "event_time",
        "available_time",
        choice_bits(found.choices).alias("choices"),
        *((fixed_weight().alias("weight"),) if found.weighed else ()),
    )
    names = (*found.sum_names, *found.last_names, *_SEEN.values())
    added = T.StructType([T.StructField(name, T.LongType()) for name in names])
    return sweep(queries, narrow, key=key, added=added, compute=compute)


def _tally(found: Tallies, events: Events, columns: pa.StructArray, queries: Queries, keys: int) -> list[pa.Array]:
    """Sums, last times, largest event_time and available_time in sight: int64 (queries,), null where nothing is."""
    bits = columns.field("choices").to_numpy()
    chosen = {choice: (bits >> i) & 1 for i, choice in enumerate(found.choices)}
    rows = len(queries.key)
    sums = np.zeros((len(found.sums), rows), np.int64)
    lasts = np.full((len(found.lasts) + 2, rows), NONE)
    any_seen = np.zeros(rows, bool)
    for view in views(events, queries, keys):
        any_seen[view.rows] = view.any_seen
        for i, total in enumerate(found.sums):
            values = chosen[total.choice]
            if total.of == "weights":
                values = values * columns.field("weight").to_numpy()
            sums[i, view.rows] = view.sums(values, total.window_us)
        for i, choice in enumerate(found.lasts):
            lasts[i, view.rows] = view.latest(1, chosen[choice] == 1)[:, 0]
        lasts[-2, view.rows] = view.latest(1)[:, 0]
        lasts[-1, view.rows] = view.last_available()
    times = [*[events.event_time] * (len(lasts) - 1), events.available_time]
    return [
        *(pa.array(total, mask=~any_seen) for total in sums),
        *(largest(time, last[:, np.newaxis]) for time, last in zip(times, lasts, strict=True)),
    ]


def _joined(queries: DataFrame, found: DataFrame, key: str) -> DataFrame:
    """`queries` with what was found as of their moments; their provenance, at the end where it is new, raised to it."""
    added = [name for name in found.columns if name not in (key, *CLOCK, *_SEEN.values())]
    joined = queries.join(found, [key, *CLOCK], how="left")
    return joined.select(
        *(F.greatest(name, _SEEN[name]).alias(name) if name in _SEEN else F.col(name) for name in queries.columns),
        *(F.col(seen).alias(name) for name, seen in _SEEN.items() if name not in queries.columns),
        *added,
    )
