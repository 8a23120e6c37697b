"""What came into sight from one snapshot to the next, kept so that later snapshots can be made of it. [spark]

A partial counts events by entity, by the day they happened on and by the day they became available on, as snapshots'
boundaries cut days (`event_day` is finer where a window is). Sums are added up, times compared: how partials make a
snapshot is left to `daily`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.config import Config, PreferenceOptions, parse_duration
from pipelines.preferences.entities import key_column, keyed_events
from pipelines.preferences.tallies import Choice, Tallies, fixed_weight, tallies, window_us
from pipelines.preferences.windows import decay_terms
from pipelines.spark import map_batches
from schemas.columns import Column as ContractColumn
from schemas.columns import Table, time_column
from schemas.content import CONTENT_TYPES
from schemas.to_spark import select_contract

KEY = ("entity", "entity_id")
DAYS = ("event_day", "available_day")
_WHOSE = (
    ContractColumn("entity", "string", doc="as in preferences.entities"),
    ContractColumn("entity_id", "string", doc="a user, item or category; of a cross both, as a JSON array"),
)


@dataclass(frozen=True)
class Layout:
    """Which integers are kept of a configuration's statistics."""

    found: Tallies

    @property
    def totals(self) -> tuple[tuple[Choice, str], ...]:
        """What is summed, whatever the window: column `total_i`."""
        return tuple(dict.fromkeys((total.choice, total.of) for total in self.found.sums))

    @property
    def total_names(self) -> list[str]:
        """Columns of `totals`."""
        return [f"total_{i}" for i in range(len(self.totals))]

    @property
    def id_choices(self) -> tuple[Choice, ...]:
        """Choices of events whose different ids are counted: column `chosen_i` is an id's latest time."""
        return tuple(dict.fromkeys(distinct.choice for distinct in self.found.distincts))

    @property
    def id_names(self) -> list[str]:
        """Columns of `id_choices`."""
        return [f"chosen_{i}" for i in range(len(self.id_choices))]

    def tables(self, config: Config) -> dict[str, Table]:
        """The contracts of a partial's tables. A state has the same, less the days of `counts`."""
        counts = (
            *_times(*DAYS),
            *_numbers(["rows", *self.total_names]),
            *_times(*self.found.last_names, nullable=True),
        )
        made = {"counts": Table("counts", (*_WHOSE, *counts), (*KEY, *DAYS))}
        if self.found.distincts:
            ids = (ContractColumn("of", "string"), ContractColumn("value", "string"))
            made["ids"] = Table("ids", (*_WHOSE, *ids, *_times(*self.id_names, nullable=True)), (*KEY, "of", "value"))
        if self.found.decays:
            blocks = _numbers(["decay", "block", "amount"])
            made["decays"] = Table("decays", (*_WHOSE, *blocks), (*KEY, "decay", "block"))
        if config.preferences.recent:
            kinds = config.content_kinds("item")
            values = [ContractColumn(n, CONTENT_TYPES[kinds[n]], True) for n in recent_content(config.preferences)]
            named = (ContractColumn("user_id", "string"), *_times("event_time"), ContractColumn("item_id", "string"))
            # Rows equal in the key have one content too: their order does not matter.
            made["recent"] = Table("recent", (*named, *_times("available_time"), *values), ())
        return made


def layout(options: PreferenceOptions) -> Layout:
    """The layout of a configuration."""
    return Layout(tallies(options))


def recent_content(options: PreferenceOptions) -> list[str]:
    """The item's content columns that bags are made of."""
    return [name for name in options.recent if name != "item_id"]


def grain_us(options: PreferenceOptions) -> int:
    """Microseconds of an `event_day`: the longest that the period and every window are whole multiples of."""
    windows = [length for window in options.windows if (length := window_us(window)) is not None]
    return math.gcd(parse_duration(options.period), *windows)


def came_into_sight(
    interactions: DataFrame, boundary: int, before: int | None, options: PreferenceOptions
) -> DataFrame:
    """The events that the snapshot of `boundary` sees and that of `before` did not; None: there was no earlier one."""
    landing = parse_duration(options.landing_delay)
    time, available = F.col("event_time"), F.col("available_time")
    seen = (time < boundary) & (available <= boundary + landing)
    if before is None:
        return interactions.where(seen)
    # The first condition follows from the second. It is what lets whole row groups of an ordered log be skipped.
    return interactions.where(seen & (available >= before) & ((time >= before) | (available > before + landing)))


def partial(events: DataFrame, positives: DataFrame, items: DataFrame, config: Config) -> dict[str, DataFrame]:
    """The tables of `Layout.tables` for the events that came into sight; `positives` as `attach_recent` takes them."""
    options = config.preferences
    kept, contracts = layout(options), layout(options).tables(config)
    keyed = reduce(DataFrame.unionByName, (_keyed(events, items, entity, options) for entity in options.entities))
    whose = [F.col(name) for name in KEY]
    frames = {"counts": _counts(keyed, kept)}
    if "ids" in contracts:
        frames["ids"] = _ids(keyed, kept)
    if "decays" in contracts:
        frames["decays"] = _decays(keyed, kept, whose)
    if "recent" in contracts:
        frames["recent"] = positives
    return {name: select_contract(frame, contracts[name]) for name, frame in frames.items()}


def _keyed(events: DataFrame, items: DataFrame, entity: str, options: PreferenceOptions) -> DataFrame:
    """Events once for each key of an entity, with their days and their entry."""
    period, landing = parse_duration(options.period), parse_duration(options.landing_delay)
    time, available = F.col("event_time"), F.col("available_time")
    rows = keyed_events(events, items, entity)
    return rows.select(
        F.lit(entity).alias("entity"),
        F.col(key_column(entity)).alias("entity_id"),
        *events.columns,
        _floor(time, grain_us(options)).alias("event_day"),
        # The first boundary whose snapshot holds what was available then.
        (-_floor(-(available - landing), period)).alias("available_day"),
        F.greatest(available - landing, time + 1).alias("entry"),
    )


def _counts(keyed: DataFrame, kept: Layout) -> DataFrame:
    weigh: Mapping[str, Column] = {"events": F.lit(1).cast("bigint"), "weights": fixed_weight()}
    totals = [
        F.coalesce(F.sum(F.when(choice.condition, weigh[of])), F.lit(0)).alias(name)
        for name, (choice, of) in zip(kept.total_names, kept.totals, strict=True)
    ]
    lasts = [
        F.max(F.when(choice.condition, F.col("event_time"))).alias(name)
        for name, choice in zip(kept.found.last_names, kept.found.lasts, strict=True)
    ]
    rows = F.count(F.lit(1)).alias("rows")
    return keyed.groupBy(*KEY, *DAYS).agg(rows, *totals, *lasts)


def _ids(keyed: DataFrame, kept: Layout) -> DataFrame:
    of = sorted({distinct.of for distinct in kept.found.distincts})
    each = reduce(DataFrame.unionByName, (keyed.withColumns({"of": F.lit(n), "value": F.col(n)}) for n in of))
    times = [
        F.max(F.when(choice.condition, F.col("event_time"))).alias(name)
        for name, choice in zip(kept.id_names, kept.id_choices, strict=True)
    ]
    return each.groupBy(*KEY, "of", "value").agg(*times)


def _decays(keyed: DataFrame, kept: Layout, whose: list[Column]) -> DataFrame:
    """Weights by block, made by numpy: the same bits as the sweep's."""
    half_lives = list(dict.fromkeys(decay.half_life for decay in kept.found.decays))
    chosen = {f"is_{i}": decay.choice.condition for i, decay in enumerate(kept.found.decays)}
    rows = keyed.select(*whose, "event_time", "entry", *(c.alias(name) for name, c in chosen.items()))
    added = [T.StructField(f"{name}_{i}", T.LongType()) for i in range(len(half_lives)) for name in ("block", "amount")]

    def weigh(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            time, entry = (batch[name].to_numpy().astype(np.int64) for name in ("event_time", "entry"))
            for i, half_life in enumerate(half_lives):
                block, amount = decay_terms(time, entry, parse_duration(half_life))
                batch = batch.append_column(f"block_{i}", pa.array(block)).append_column(
                    f"amount_{i}", pa.array(amount)
                )
            yield batch

    weighed = map_batches(rows, weigh, T.StructType([*rows.schema.fields, *added]))
    each = [
        weighed.where(f"is_{i}").select(
            *whose,
            F.lit(i).cast("bigint").alias("decay"),
            *(F.col(f"{name}_{half_lives.index(decay.half_life)}").alias(name) for name in ("block", "amount")),
        )
        for i, decay in enumerate(kept.found.decays)
    ]
    return reduce(DataFrame.unionByName, each).groupBy(*KEY, "decay", "block").agg(F.sum("amount").alias("amount"))


def _floor(time: Column, length: int) -> Column:
    """The largest whole multiple of `length` that is not after `time`."""
    return time - F.pmod(time, F.lit(length))


def _times(*names: str, nullable: bool = False) -> tuple[ContractColumn, ...]:
    return tuple(time_column(name, "", nullable) for name in names)


def _numbers(names: list[str]) -> tuple[ContractColumn, ...]:
    return tuple(ContractColumn(name, "int64") for name in names)
