"""The point-in-time join of behaviour: statistics and recent positives as of each row's clock. [spark around numpy]

The clocks are `clock`'s, what is in sight `windows`', the arithmetic of each kind of statistic `tallies`'.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.config import PreferenceOptions, parse_duration
from pipelines.content.as_of import attach_content
from pipelines.features import bag_names
from pipelines.preferences.bags import alphabetical, bags, largest
from pipelines.preferences.clock import CLOCK
from pipelines.preferences.sweep import EVENT, Block, sweep
from pipelines.preferences.tallies import (
    EVERY,
    Choice,
    Tallies,
    choice_bits,
    fixed_weight,
    statistic_columns,
    tallies,
    window_us,
)
from pipelines.preferences.windows import (
    DECAY_HALF_LIVES,
    DECAY_SCALE,
    NONE,
    Bools,
    Events,
    Ints,
    Queries,
    newest,
    views,
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
    swept = sweep(queries, narrow, key="user_id", added=T.StructType(added), sweeper=_Recent(options))
    return _with_provenance(swept, queries.columns)


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
    return sweep(rows, events, key=key, added=added, sweeper=_Totals(found), clock=clock)


class _Totals:
    """Sums, last times, largest event_time and available_time in sight."""

    def __init__(self, found: Tallies) -> None:
        self._found = found
        self._lifetime = [i for i, total in enumerate(found.sums) if window_us(total.window) is None]
        self.sums = len(self._lifetime)

    def compute(self, block: Block, queries: Queries) -> list[pa.Array]:
        """int64 (queries,), null where no event of the key is in sight."""
        found, events = self._found, block.events
        chosen = self._chosen(block)
        rows = len(queries.key)
        sums = np.zeros((len(found.sum_names), rows), np.int64)
        distincts, decays = len(found.sums), len(found.sums) + len(found.distincts)
        ids = {
            name: _codes(block.columns.field(f"of_{name}")) for name in {distinct.of for distinct in found.distincts}
        }
        lasts = np.full((len(found.lasts) + 2, rows), NONE)
        any_seen = np.zeros(rows, bool)
        for view in views(events, queries, len(block.before)):
            any_seen[view.rows] = view.any_seen
            for i, total in enumerate(found.sums):
                sums[i, view.rows] = view.sums(self._values(i, block, chosen), window_us(total.window))
            for i, (choice, of, window) in enumerate(found.distincts, distincts):
                sums[i, view.rows] = view.distinct(ids[of], window_us(window), chosen[choice] == 1)
            for i, (choice, half_life) in enumerate(found.decays, decays):
                decayed = view.decayed(chosen[choice], parse_duration(half_life))
                sums[i, view.rows] = np.rint(decayed * DECAY_SCALE)
            for i, choice in enumerate(found.lasts):
                lasts[i, view.rows] = view.latest(1, chosen[choice] == 1)[:, 0]
            lasts[-2, view.rows] = view.latest(1)[:, 0]
            lasts[-1, view.rows] = view.last_available()
        sums[self._lifetime] += block.before[queries.key].T
        times = [*[events.event_time] * (len(lasts) - 1), events.available_time]
        return [
            *(pa.array(total, mask=~any_seen) for total in sums),
            *(largest(time, last[:, np.newaxis]) for time, last in zip(times, lasts, strict=True)),
        ]

    def outlasting(self, block: Block, until: int) -> tuple[Bools, Ints]:
        """Kept: what a window can still hold or release, and the last of each choice, by time and by arrival."""
        found, events = self._found, block.events
        windows = [window_us(total.window) or 0 for total in found.sums]
        windows += [window_us(distinct.window) or 0 for distinct in found.distincts]
        windows += [DECAY_HALF_LIVES * parse_duration(decay.half_life) for decay in found.decays]
        in_sight = events.available_time <= until
        kept = ~in_sight | (events.event_time >= until - max(windows, default=0))
        chosen = self._chosen(block)
        for choice, of, window in found.distincts:
            if window_us(window) is None:
                kept |= _one_of_each(events.key, block.columns.field(f"of_{of}"), in_sight & (chosen[choice] == 1))
        # Among those that every later moment sees: one that has yet to arrive takes nobody's place.
        for mask in (in_sight, *(in_sight & (chosen[choice] == 1) for choice in found.lasts)):
            kept |= newest(events, events.event_time, 1, mask)
        kept |= newest(events, events.available_time, 1, in_sight)
        before = block.before.copy()
        for column, i in enumerate(self._lifetime):
            np.add.at(before[:, column], events.key[~kept], self._values(i, block, chosen)[~kept])
        return kept, before

    def _chosen(self, block: Block) -> dict[Choice, Ints]:
        if self._found.choices == (EVERY,):
            return {EVERY: np.ones(len(block.events.key), np.int64)}
        bits = block.columns.field("choices").to_numpy()
        return {choice: (bits >> i) & 1 for i, choice in enumerate(self._found.choices)}

    def _values(self, i: int, block: Block, chosen: Mapping[Choice, Ints]) -> Ints:
        total = self._found.sums[i]
        values = chosen[total.choice]
        return values * block.columns.field("weight").to_numpy() if total.of == "weights" else values


class _Recent:
    """The user's bags, and the largest times of the positives in them."""

    sums = 0

    def __init__(self, options: PreferenceOptions) -> None:
        self._options = options

    def compute(self, block: Block, queries: Queries) -> list[pa.Array]:
        """list<string> (queries,) for each bag, then the two times."""
        length, events = self._options.recent_length, self._ordered(block)
        latest = np.full((len(queries.key), length), NONE)
        for view in views(events, queries, len(block.before)):
            latest[view.rows] = view.latest(length)
        lists = [bags(block.columns.field(name), latest) for name in self._options.recent]
        return [*lists, largest(events.event_time, latest), largest(events.available_time, latest)]

    def outlasting(self, block: Block, until: int) -> tuple[Bools, Ints]:
        """Kept: the latest, and what has not come into sight."""
        events = self._ordered(block)
        in_sight: Bools = events.available_time <= until
        return ~in_sight | newest(events, events.event_time, self._options.recent_length, in_sight), block.before

    def _ordered(self, block: Block) -> Events:
        """Of equal times the smaller item_id counts as the later, of one item the event available first."""
        _, arrival = np.unique(block.events.available_time, return_inverse=True)
        tie = -(alphabetical(block.columns.field("item_id")) * max(len(arrival), 1) + arrival)
        return block.events._replace(tie=tie)


def _codes(values: pa.Array) -> Ints:
    """(n,) small integers, equal where values are."""
    codes: Ints = values.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _one_of_each(key: Ints, values: pa.Array, chosen: Bools) -> Bools:
    """Marks one of the `chosen` events of each key and value."""
    rows = np.flatnonzero(chosen)
    pairs = np.stack([key[rows], _codes(values)[rows]])
    _, first = np.unique(pairs, axis=1, return_index=True)
    marks = np.zeros(len(key), bool)
    marks[rows[first]] = True
    return marks


def _with_provenance(swept: DataFrame, before: Sequence[str]) -> DataFrame:
    """The columns `before`, provenance raised to what was seen or, where it is new, after them; then what was added."""
    added = [name for name in swept.columns if name not in (*before, *_SEEN.values())]
    return swept.select(
        *(F.greatest(name, _SEEN[name]).alias(name) if name in _SEEN else F.col(name) for name in before),
        *(F.col(seen).alias(name) for name, seen in _SEEN.items() if name not in before),
        *added,
    )
