"""A day's snapshot made of the day before's is the one that a sweep over the whole log gives, to the last bit."""

from functools import reduce

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import parse_config
from pipelines.examples.sides import recent_positives
from pipelines.examples.tables import Tables
from pipelines.preferences.daily import longest_window_us, next_state, snapshots
from pipelines.preferences.entities import key_column, keyed_events
from pipelines.preferences.join import attach_recent, attach_statistics
from pipelines.preferences.partials import came_into_sight, grain_us, partial
from pipelines.preferences.snapshot import snapshot_contract
from schemas.content import content_table
from schemas.interactions import INTERACTIONS
from schemas.preferences import US_PER_DAY
from schemas.to_spark import spark_schema

pytestmark = pytest.mark.usefixtures("one_task")

HOUR = US_PER_DAY // 24
DAYS = 3
PRIORS = {"click_rate": 0.25, "size_mean": 2.0}
CONFIG = parse_config(
    {
        "name": "daily",
        "seed": 1,
        "source": {
            "interactions": [{"path": "log", "user_id": "u", "item_id": "i", "event_time": {"column": "t"}}],
            "items": [{"path": "items", "id": "i", "columns": {"tags": {"kind": "categories"}}}],
        },
        "labels": {"rule": "impressions", "positive_actions": ["click"]},
        "preferences": {
            "landing_delay": "1h",
            "publish_delay": "2h",
            "windows": ["1d", "36h", "lifetime"],
            "entities": ["user", "item", "item.tags", "user*item.tags"],
            "statistics": [
                {"name": "click", "kind": "count", "actions": ["click"]},
                {"name": "click", "kind": "rate", "actions": ["click"], "of_actions": ["impression"]},
                {"name": "size", "kind": "mean", "min_weight": 1.5},
                {"name": "size", "kind": "sum"},
                {"name": "click", "kind": "days_since", "actions": ["click"]},
                {"name": "item", "kind": "distinct", "actions": ["click"]},
                {"name": "user", "kind": "distinct", "distinct_of": "user_id"},
                {"name": "click", "kind": "decayed", "actions": ["click"], "half_life": "3h"},
            ],
            "recent": ["tags", "item_id"],
            "recent_length": 3,
        },
    }
)
OPTIONS = CONFIG.preferences
FIRST = -2  # days before 1970 are days too
TIMES = st.one_of(
    st.integers(FIRST * US_PER_DAY, (FIRST + DAYS) * US_PER_DAY),
    st.sampled_from(
        [day * US_PER_DAY + shift for day in range(FIRST, FIRST + DAYS) for shift in (-1, 0, 1, HOUR, HOUR + 1)]
    ),
)
DELAYS = st.sampled_from([0, 0, 1, HOUR - 1, HOUR, HOUR + 1, 30 * HOUR, 3 * US_PER_DAY])
# Every user with every item, at, before and after a boundary, at once and at each delay.
NASTY = [
    ("uvw"[n % 3], "pqr"[n // 3 % 3], (FIRST + n % DAYS) * US_PER_DAY + shift, delay, action, 1.0 + n % 3 / 4)
    for n, (shift, delay) in enumerate(
        [(shift, delay) for shift in (-1, 0, 12 * HOUR - 1) for delay in (0, HOUR, HOUR + 1, 30 * HOUR, 60 * HOUR)]
    )
    for action in ("click", "impression")
]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from("uvw"),
        st.sampled_from("pqr"),
        TIMES,
        DELAYS,
        st.sampled_from(["click", "click", "impression"]),
        st.sampled_from([1.0, 1.5, 2.25]),
    ),
    min_size=12,
    max_size=40,
    unique_by=lambda event: (event[0], event[1], event[2], event[4]),
)


# Shrinking takes minutes here.
@settings(
    max_examples=1, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
@example(events=NASTY, first=FIRST)
@given(events=EVENTS, first=st.integers(FIRST, FIRST + 2))
def test_every_day_is_what_a_sweep_over_the_whole_log_gives(spark, events, first) -> None:
    log = spark.createDataFrame(
        [(u, i, t, t + delay, action, weight) for u, i, t, delay, action, weight in events], spark_schema(INTERACTIONS)
    )
    items = spark.createDataFrame(
        [
            ("p", FIRST * US_PER_DAY, None, None, ["a", "b"]),
            ("p", -8 * HOUR, None, None, ["b", "c"]),
            ("q", FIRST * US_PER_DAY, None, None, ["a", "a"]),
        ],
        spark_schema(content_table("item", {"tags": "categories"})),
    )
    users = spark.createDataFrame([], spark_schema(content_table("user", {})))
    tables = Tables(log, items, users)
    boundaries = range(first * US_PER_DAY, (FIRST + DAYS + 2) * US_PER_DAY, US_PER_DAY)
    state, counts, before = None, {}, None
    made = {entity: [] for entity in OPTIONS.entities}
    for boundary in boundaries:
        fresh = came_into_sight(log, boundary, before, OPTIONS)
        new = partial(fresh, recent_positives(Tables(fresh, items, users), CONFIG), items, CONFIG)
        new["counts"] = new["counts"].localCheckpoint()
        counts = {**counts, boundary: new["counts"]}
        state = {n: frame.localCheckpoint() for n, frame in next_state(state, new, boundary, CONFIG).items()}
        within = [frame for day, frame in counts.items() if day > boundary - longest_window_us(CONFIG)]
        day = snapshots(state, reduce(DataFrame.unionByName, within), boundary, CONFIG, PRIORS)
        for entity, frames in made.items():
            frames.append(day[snapshot_contract(entity, OPTIONS).name])
        before = boundary
    for entity, frames in made.items():
        names = snapshot_contract(entity, OPTIONS).names
        expected = swept(tables, entity, boundaries).select(names).collect()
        assert plain(reduce(DataFrame.unionByName, frames).collect()) == plain(expected), entity


def swept(tables, entity, boundaries):
    """Every snapshot of an entity, by the point-in-time join."""
    events, key = keyed_events(tables.interactions, tables.items, entity), key_column(entity)
    times = F.array(*(F.lit(boundary).cast("bigint") for boundary in boundaries))
    rows = events.select(key).distinct().withColumn("as_of", F.explode(times))
    rows = rows.withColumns({"known_by": F.col("as_of") + HOUR, "served_from": F.col("as_of") + 2 * HOUR})
    rows = attach_statistics(rows, events, key=key, entity=entity, options=OPTIONS, priors=PRIORS)
    if entity == "user":
        rows = attach_recent(rows, recent_positives(tables, CONFIG), options=OPTIONS)
    seen = rows.where(F.col("max_event_time").isNotNull())
    return seen.withColumns({"entity_id": F.col(key), "snapshot_time": F.col("as_of")})


def plain(rows):
    return sorted((tuple(tuple(v) if isinstance(v, list) else v for v in row) for row in rows), key=repr)


def test_partials_of_all_days_hold_each_event_once_whatever_its_delay(spark) -> None:
    times = [
        (day * US_PER_DAY + shift, delay) for day in range(3) for shift in (0, 1) for delay in (0, HOUR, 40 * HOUR)
    ]
    rows = [(f"u{n}", "i", time, time + delay, "click", 1.0) for n, (time, delay) in enumerate(times)]
    log = spark.createDataFrame(rows, spark_schema(INTERACTIONS))
    seen = [
        row["user_id"]
        for day in range(8)
        for row in came_into_sight(
            log, day * US_PER_DAY, None if day == 0 else (day - 1) * US_PER_DAY, OPTIONS
        ).collect()
    ]
    assert sorted(seen) == sorted(row[0] for row in rows)


def test_days_are_cut_as_finely_as_windows_need_and_named_for_when_events_became_available(spark) -> None:
    assert grain_us(OPTIONS) == 12 * HOUR
    row = ("u", "i", 30 * HOUR, 49 * HOUR, "click", 1.0)
    log = spark.createDataFrame([row], spark_schema(INTERACTIONS))
    items = spark.createDataFrame([], spark_schema(content_table("item", {"tags": "categories"})))
    counts = partial(log, log.withColumn("tags", F.array(F.lit("x"))), items, CONFIG)["counts"]
    found = {(r["entity"], r["event_day"], r["available_day"]) for r in counts.collect()}
    assert found == {(entity, 24 * HOUR, 48 * HOUR) for entity in ("user", "item")}
