"""Statistics and bags in Spark against plain loops over events: all kinds, both clocks, lists, any partitioning."""

import random
from functools import partial

import pytest
from pyspark.sql import functions as F

from pipelines.config import PreferenceOptions, parse_duration
from pipelines.features import bag_names, statistic_names
from pipelines.preferences.clock import clock_columns
from pipelines.preferences.entities import keyed_events
from pipelines.preferences.join import attach_recent, attach_statistics
from schemas.interactions import INTERACTIONS
from schemas.preferences import LIFETIME, US_PER_DAY
from schemas.to_spark import spark_schema

HOUR = US_PER_DAY // 24
STATISTICS = (
    {"name": "event", "kind": "count"},
    {"name": "like", "kind": "count", "actions": ("rate",), "min_weight": 3.5},
    {"name": "stars", "kind": "sum", "actions": ("rate",)},
    {"name": "stars", "kind": "mean", "actions": ("rate",), "prior_strength": 2.5},
    {"name": "bare", "kind": "mean", "actions": ("rate",), "prior_strength": 0},
    {"name": "like", "kind": "rate", "actions": ("rate",), "min_weight": 3.5, "of_actions": ("view", "rate")},
    {"name": "bare", "kind": "rate", "actions": ("rate",), "of_actions": ("view",), "prior_strength": 0},
    {"name": "view", "kind": "days_since", "actions": ("view",)},
    {"name": "item", "kind": "distinct"},
    {"name": "rater", "kind": "distinct", "actions": ("rate",), "distinct_of": "user_id"},
    {"name": "view", "kind": "decayed", "actions": ("view",), "half_life": "30h"},
)
PRIORS = {"stars_mean": 3.125, "bare_mean": 9.0, "like_rate": 0.3, "bare_rate": 9.0}


def options(accuracy: str, **changed) -> PreferenceOptions:
    delays = {"period": "1d", "landing_delay": "1h", "publish_delay": "2h"}
    given = {"windows": ("1d", "3d", LIFETIME), "statistics": STATISTICS, "recent": ("tags", "item_id", "category")}
    return PreferenceOptions.model_validate({"accuracy": accuracy, **delays, **given, "recent_length": 3, **changed})


def made_up_log(seed: int, events: int = 120) -> list[tuple]:
    """A log of few keys (one of them hot) on a coarse grid of times: ties, copies and late events abound."""
    draw = random.Random(seed)
    rows = []
    for _ in range(events):
        time = draw.randrange(0, 8 * 24, 6) * HOUR
        late = draw.choice([0, 0, 0, HOUR // 2, HOUR, 30 * HOUR, 90 * HOUR])
        user = draw.choice(["hot", "hot", "hot", "a", "b", "c"])
        action = draw.choice(["view", "view", "rate"])
        rows.append((user, draw.choice("pqrs"), time, time + late, action, draw.choice([1.0, 2.5, 3.5, 4.5, 0.3])))
    return rows + rows[:10]


def made_up_queries(seed: int, n: int = 40) -> list[tuple]:
    draw = random.Random(seed)
    keys = ["hot", "a", "b", "unseen", None]
    lists = [["hot", "a"], ["b"], ["unseen", "b", "b"], [], None, ["unseen"], ["a", "c", "hot"]]
    return [
        (i, draw.choice(keys), draw.choice(lists), draw.randrange(-1, 10 * 24, 3) * HOUR, [f"tag{i}"]) for i in range(n)
    ]


def by_definition(log, keys, as_of: int, known_by: int, options: PreferenceOptions) -> tuple[list, list]:
    """One row's statistics and provenance, by plain loops."""
    pooled = [e for key in sorted(set(keys or [])) for e in log if e[0] == key]
    seen = [e for e in pooled if e[2] < as_of and e[3] <= known_by]
    row: list[float | None] = []
    for statistic in options.statistics:
        strength = statistic.prior_strength

        def counts(event, statistic=statistic) -> bool:
            enough = statistic.min_weight is None or event[5] >= statistic.min_weight
            return (statistic.actions is None or event[4] in statistic.actions) and enough

        if statistic.kind == "days_since":
            times = [event[2] for event in seen if counts(event)]
            row.append((as_of - max(times)) / US_PER_DAY if times else None)
            continue
        if statistic.kind == "decayed":
            ages = [(as_of - event[2]) / parse_duration(statistic.half_life) for event in seen if counts(event)]
            row.append(pytest.approx(sum(0.5**age for age in ages), abs=1e-6) if seen else None)
            continue
        for window in options.windows:
            inside = [e for e in seen if window == LIFETIME or as_of - parse_duration(window) <= e[2]]
            chosen = [event for event in inside if counts(event)]
            total = sum(round(event[5] * 2**20) for event in chosen) / 2**20
            if statistic.kind == "rate":
                of = [e for e in inside if statistic.of_actions is None or e[4] in statistic.of_actions]
                total, n = len(chosen), len(of)
            else:
                n = len(chosen)
            if not seen:
                row.append(None)
            elif statistic.kind == "distinct":
                of = 0 if statistic.distinct_of == "user_id" else 1
                groups = {event[0]: set() for event in chosen}
                for event in chosen:
                    groups[event[0]].add(event[of])
                row.append(float(sum(map(len, groups.values()))))
            elif statistic.kind in ("count", "sum"):
                row.append(float(n if statistic.kind == "count" else total))
            else:
                prior = PRIORS[f"{statistic.name}_{statistic.kind}"]
                row.append((total + strength * prior) / (n + strength) if n + strength else None)
    return [max((e[2] for e in seen), default=None), max((e[3] for e in seen), default=None)], row


def frames(spark, log, queries, options, partitions: int):
    events = spark.createDataFrame(log, spark_schema(INTERACTIONS)).repartition(partitions)
    asked = spark.createDataFrame(
        queries, "n long, user_id string, users array<string>, event_time long, tags array<string>"
    ).repartition(partitions)
    as_of, known_by = clock_columns(F.col("event_time"), options)
    return events, asked.withColumns({"as_of": as_of, "known_by": known_by})


@pytest.mark.parametrize("accuracy", ["exact", "snapshot"])
@pytest.mark.parametrize("seed", [1])
def test_statistics_of_a_key_and_of_a_list_of_keys_are_those_of_the_definition(spark, accuracy, seed) -> None:
    chosen = options(accuracy)
    log, queries = made_up_log(seed), made_up_queries(seed)
    events, asked = frames(spark, log, queries, chosen, 3)
    attach = partial(attach_statistics, options=chosen, priors=PRIORS)
    single = attach(asked, events, key="user_id", entity="user")
    pooled = attach(asked, events.withColumn("users", F.col("user_id")), key="users", entity="item.users")
    for frame, key, entity in ((single, 1, "user"), (pooled, 2, "item.users")):
        names = ["max_event_time", "max_available_time", *statistic_names(entity, chosen)]
        assert frame.columns == [*asked.columns, *names]
        rows = {row["n"]: row for row in frame.collect()}
        assert len(rows) == len(queries)
        for query in queries:
            row = rows[query[0]]
            assert row["tags"] == query[4]
            keys = [query[key]] if key == 1 else query[key]
            provenance, statistics = by_definition(log, keys, row["as_of"], row["known_by"], chosen)
            assert [row[name] for name in names] == [*provenance, *statistics]


def test_a_clock_may_have_other_names(spark) -> None:
    chosen = options("exact")
    events, asked = frames(spark, made_up_log(5), made_up_queries(5), chosen, 2)
    attach = partial(attach_statistics, events=events, key="user_id", entity="user", options=chosen, priors=PRIORS)
    renamed = asked.withColumnsRenamed({"as_of": "from", "known_by": "by"})
    found = [
        sorted(map(tuple, frame.select("n", *statistic_names("user", chosen)).collect()))
        for frame in (attach(asked), attach(renamed, clock=("from", "by")))
    ]
    assert found[0] == found[1]


def test_provenance_is_raised_over_several_entities(spark) -> None:
    chosen = options("exact")
    log = [("a", "p", 10, 50, "view", 1.0), ("b", "q", 20, 20, "view", 1.0)]
    events = spark.createDataFrame(log, spark_schema(INTERACTIONS))
    asked = spark.createDataFrame([("a", "q", 60, 60)], "user_id string, item_id string, as_of long, known_by long")
    attach = partial(attach_statistics, options=chosen, priors=PRIORS)
    both = attach(attach(asked, events, key="user_id", entity="user"), events, key="item_id", entity="item")
    assert both.select("max_event_time", "max_available_time").first() == (20, 50)


@pytest.mark.parametrize("accuracy", ["exact", "snapshot"])
def test_bags_hold_the_latest_positives_in_sight(spark, accuracy) -> None:
    chosen = options(accuracy)
    log, queries = made_up_log(3), made_up_queries(3)
    events, asked = frames(spark, log, queries, chosen, 3)
    tags = {"p": ["x", "y"], "q": [], "r": None, "s": ["z"]}
    category = {"p": "k", "q": None, "r": "l", "s": "k"}
    content = spark.createDataFrame(
        [(item, tags[item], category[item]) for item in "pqrs"], "item_id string, tags array<string>, category string"
    )
    frame = attach_recent(asked, events.join(content, "item_id", how="left"), options=chosen)
    rows = {row["n"]: row for row in frame.withColumnRenamed("tags", "own_tags").collect()}
    assert len(rows) == len(queries)
    for query in queries:
        row = rows[query[0]]
        seen = [e for e in log if e[0] == query[1] and e[2] < row["as_of"] and e[3] <= row["known_by"]]
        latest = sorted(seen, key=lambda event: (-event[2], event[1], event[3]))[:3]
        expected = (
            [tag for event in latest for tag in tags[event[1]] or []],
            [event[1] for event in latest],
            [category[event[1]] for event in latest if category[event[1]]],
        )
        assert [row[name] for name in bag_names(chosen)] == (list(expected) if seen else [None] * 3)
        assert row["max_event_time"] == max((event[2] for event in latest), default=None)
        assert row["max_available_time"] == max((event[3] for event in latest), default=None)


def test_rows_are_the_same_to_the_byte_in_any_order_and_any_number_of_partitions(spark) -> None:
    chosen = options("snapshot")
    log, queries = made_up_log(4), made_up_queries(4)
    before, seen = spark.conf.get("spark.sql.shuffle.partitions"), set()
    try:
        for partitions in (1, 2, 7):
            spark.conf.set("spark.sql.shuffle.partitions", str(partitions))
            random.Random(partitions).shuffle(log)
            random.Random(partitions).shuffle(queries)
            events, asked = frames(spark, log, queries, chosen, partitions)
            attach = partial(attach_statistics, options=chosen, priors=PRIORS)
            frame = attach(asked, events, key="user_id", entity="user")
            frame = attach(frame, events.withColumn("users", F.col("user_id")), key="users", entity="item.users")
            positives = events.withColumns({"tags": F.array("item_id"), "category": F.col("item_id")})
            rows = sorted(attach_recent(frame, positives, options=chosen).collect(), key=lambda row: row["n"])
            seen.add(repr(rows))
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)
    assert len(seen) == 1


def test_an_empty_log_leaves_every_statistic_and_bag_missing(spark) -> None:
    chosen = options("exact")
    _, asked = frames(spark, made_up_log(1), made_up_queries(1, 5), chosen, 2)
    none = spark.createDataFrame([], spark_schema(INTERACTIONS))
    frame = attach_statistics(asked, none, key="user_id", entity="user", options=chosen, priors=PRIORS)
    positives = none.withColumns({"tags": F.array("item_id"), "category": F.col("item_id")})
    rows = attach_recent(frame, positives, options=chosen).select(*statistic_names("user", chosen), *bag_names(chosen))
    assert {tuple(row) for row in rows.collect()} == {(None,) * len(rows.columns)}


def test_an_event_counts_for_each_category_that_its_item_had_at_that_time(spark) -> None:
    log = [("u", "p", 10, 10, "view", 1.0), ("u", "p", 20, 20, "view", 1.0), ("u", "q", 20, 20, "view", 1.0)]
    versions = [("p", 0, ["old", "old"]), ("p", 20, ["new", "other"]), ("q", 30, ["later"])]
    found = keyed_events(
        spark.createDataFrame(log, spark_schema(INTERACTIONS)),
        spark.createDataFrame(versions, "item_id string, valid_from long, tags array<string>"),
        "item.tags",
    )
    assert sorted((row["event_time"], row["item_tags"]) for row in found.collect()) == [
        (10, "old"), (20, "new"), (20, "other"),
    ]  # fmt: skip
