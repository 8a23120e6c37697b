"""A day's snapshot from the day before's and what came into sight since: what it reads does not grow with the log.

What has no end (lifetime sums, latest times, different ids, a user's latest positives) is carried on from day to day as
a state; what lies in a window is added up from the partials of its days. The numbers are the point-in-time join's.
[spark]
"""

from collections.abc import Mapping

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.config import Config, parse_duration
from pipelines.features import bag_names
from pipelines.preferences.partials import DAYS, KEY, Layout, layout
from pipelines.preferences.snapshot import snapshot_contracts
from pipelines.preferences.tallies import statistic_columns, window_us
from pipelines.preferences.windows import BLOCK_HALF_LIVES, BLOCKS, DECAY_SCALE, decay_blocks
from schemas.columns import Table
from schemas.to_spark import select_contract

Frames = Mapping[str, DataFrame]


def state_tables(config: Config) -> dict[str, Table]:
    """The contracts of a state: the tables of a partial, without days."""
    tables = layout(config.preferences).tables(config)
    counts = tuple(column for column in tables["counts"] if column.name not in DAYS)
    return {**tables, "counts": Table("counts", counts, KEY)}


def longest_window_us(config: Config) -> int:
    """How far back of a boundary partials are needed: its own day at least."""
    lengths = [window_us(window) or 0 for window in config.preferences.windows]
    return max(parse_duration(config.preferences.period), *lengths)


def next_state(before: Frames | None, new: Frames, boundary: int, config: Config) -> dict[str, DataFrame]:
    """The state at `boundary`: that of the snapshot before it (None: there is none) and what came into sight since."""
    options, kept = config.preferences, layout(config.preferences)
    contracts = state_tables(config)
    counts = new["counts"].drop(*DAYS)
    both = {name: new[name] if name != "counts" else counts for name in contracts}
    if before is not None:
        both = {name: before[name].unionByName(frame) for name, frame in both.items()}
    sums = [F.sum(name).alias(name) for name in ("rows", *kept.total_names)]
    latest = [F.max(name).alias(name) for name in kept.found.last_names]
    state = {"counts": both["counts"].groupBy(*KEY).agg(*sums, *latest)}
    if "ids" in both:
        times = [F.max(name).alias(name) for name in kept.id_names]
        state["ids"] = both["ids"].groupBy(*KEY, "of", "value").agg(*times)
        windows = [window_us(distinct.window) for distinct in kept.found.distincts]
        if None not in windows:  # no later snapshot can count what every window has left behind
            oldest = boundary - max(length for length in windows if length is not None)
            state["ids"] = state["ids"].where(F.greatest(F.lit(-(2**62)), *kept.id_names) >= oldest)
    if "decays" in both:
        alive = F.lit(False)
        for i, decay in enumerate(kept.found.decays):
            span = BLOCK_HALF_LIVES * parse_duration(decay.half_life)
            alive = alive | ((F.col("decay") == i) & (F.col("block") > boundary // span - BLOCKS))
        summed = both["decays"].where(alive).groupBy(*KEY, "decay", "block")
        state["decays"] = summed.agg(F.sum("amount").alias("amount"))
    if "recent" in both:
        place = F.row_number().over(Window.partitionBy("user_id").orderBy(*_latest_first()))
        state["recent"] = both["recent"].withColumn("place", place).where(F.col("place") <= options.recent_length)
    return {name: select_contract(frame, contracts[name]) for name, frame in state.items()}


def snapshots(
    state: Frames, counts: DataFrame, boundary: int, config: Config, priors: Mapping[str, float]
) -> dict[str, DataFrame]:
    """The snapshot of every entity at `boundary`: name -> frame of `snapshot_contract`.

    `counts` are those of all partials whose events can lie in a window.
    """
    options, kept = config.preferences, layout(config.preferences)
    found = kept.found
    rows = state["counts"].join(_windowed(counts, kept, boundary), [*KEY], how="left")
    columns: dict[str, Column] = {}
    for i, total in enumerate(found.sums):
        whole = F.col(f"total_{kept.totals.index((total.choice, total.of))}")
        columns[f"sum_{i}"] = whole if window_us(total.window) is None else F.coalesce(f"within_{i}", F.lit(0))
    if "ids" in state:
        rows = rows.join(_distinct(state["ids"], kept, boundary), [*KEY], how="left")
    if "decays" in state:
        rows = rows.join(_decayed(state["decays"], kept, boundary), [*KEY], how="left")
    counted = [name for name in found.sum_names if not name.startswith("sum_")]
    columns |= {name: F.coalesce(name, F.lit(0)) for name in counted}
    served_from = boundary + parse_duration(options.publish_delay)
    columns |= {"snapshot_time": F.lit(boundary), "served_from": F.lit(served_from)}
    rows = rows.withColumns(columns)
    made = {}
    for entity, contract in snapshot_contracts(options).items():
        mine = rows.where(F.col("entity") == entity)
        statistics = statistic_columns(found, entity, options, priors, "snapshot_time")
        times = ("snapshot_time", "served_from")
        if entity in options.entities:
            served = mine.select("entity_id", *times, *statistics)
        else:
            served = state["recent"].select(F.col("user_id").alias("entity_id")).distinct()
            served = served.withColumns({name: columns[name] for name in times})
        if entity == "user" and options.recent:
            served = served.join(_bags(state["recent"], config), "entity_id", how="left")
        made[contract.name] = select_contract(served, contract)
    return made


def _windowed(counts: DataFrame, kept: Layout, boundary: int) -> DataFrame:
    """Sums over the finite windows: `within_i`, null where nothing of the key lies in any of them."""
    sums = []
    for i, total in enumerate(kept.found.sums):
        length = window_us(total.window)
        if length is not None:
            name = f"total_{kept.totals.index((total.choice, total.of))}"
            sums.append(F.sum(F.when(F.col("event_day") >= boundary - length, F.col(name))).alias(f"within_{i}"))
    return counts.groupBy(*KEY).agg(*sums) if sums else counts.select(*KEY).distinct()


def _distinct(ids: DataFrame, kept: Layout, boundary: int) -> DataFrame:
    """Different ids: a window has those whose latest event lies in it."""
    counts = []
    for i, (choice, of, window) in enumerate(kept.found.distincts):
        latest, length = F.col(f"chosen_{kept.id_choices.index(choice)}"), window_us(window)
        inside = latest.isNotNull() if length is None else latest >= boundary - length
        counts.append(F.count_if((F.col("of") == of) & inside).alias(f"distinct_{i}"))
    return ids.groupBy(*KEY).agg(*counts)


def _decayed(decays: DataFrame, kept: Layout, boundary: int) -> DataFrame:
    """Decayed sums, block by block, newest first, as the sweep adds them up."""
    amounts, columns = [], []
    for i, decay in enumerate(kept.found.decays):
        half_life = parse_duration(decay.half_life)
        value = F.lit(0.0)
        for back, (begin, share) in enumerate(decay_blocks(np.array([boundary]), half_life)):
            name = f"amount_{i}_{back}"
            block = int(begin[0]) // (BLOCK_HALF_LIVES * half_life)
            mine = (F.col("decay") == i) & (F.col("block") == block)
            amounts.append(F.coalesce(F.sum(F.when(mine, F.col("amount"))), F.lit(0)).alias(name))
            value = value + F.lit(float(share[0])) * (F.col(name).cast("double") / F.lit(DECAY_SCALE))
        columns.append(F.rint(value * F.lit(DECAY_SCALE)).cast("bigint").alias(f"decay_{i}"))
    return decays.groupBy(*KEY).agg(*amounts).select(*KEY, *columns)


def _latest_first() -> list[Column]:
    """The order of a user's bag: of equal times the smaller item first, of one item the event available first."""
    return [F.desc("event_time"), F.asc("item_id"), F.asc("available_time")]


def _bags(recent: DataFrame, config: Config) -> DataFrame:
    """A user's bags: the values of the latest positives, latest first."""
    options = config.preferences
    place = F.row_number().over(Window.partitionBy("user_id").orderBy(*_latest_first()))
    listed = {name: F.col(name) for name in options.recent}
    kinds = {"item_id": "category", **config.content_kinds("item")}
    values = {
        name: column if kinds[name] == "categories" else F.array_compact(F.array(column))
        for name, column in listed.items()
    }
    named = [F.coalesce(column, F.array().cast("array<string>")).alias(name) for name, column in values.items()]
    rows = recent.select(F.col("user_id").alias("entity_id"), F.struct(place.alias("place"), *named).alias("event"))
    ordered = rows.groupBy("entity_id").agg(F.array_sort(F.collect_list("event")).alias("events"))
    return ordered.select(
        "entity_id",
        *(
            F.flatten(F.col(f"events.{name}")).alias(bag)
            for name, bag in zip(options.recent, bag_names(options), strict=True)
        ),
    )
