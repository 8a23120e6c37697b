"""Serving and training see the same: a snapshot's row is what an example at its clock gets."""

import pytest
from pyspark.sql import functions as F

from pipelines.config import PreferenceOptions
from pipelines.features import bag_names, statistic_names
from pipelines.preferences.clock import clock_columns
from pipelines.preferences.join import attach_recent, attach_statistics
from pipelines.preferences.snapshot import serving_moment, snapshot, snapshot_contract
from schemas.interactions import INTERACTIONS
from schemas.preferences import US_PER_DAY
from schemas.to_spark import spark_schema

HOUR = US_PER_DAY // 24
STATISTICS = (
    {"name": "view", "kind": "count", "actions": ("view",)},
    {"name": "stars", "kind": "mean", "actions": ("rate",)},
    {"name": "view", "kind": "days_since", "actions": ("view",)},
)
LOG = [
    ("u", "p", HOUR, HOUR, "view", 1.0),
    ("u", "q", 30 * HOUR, 31 * HOUR, "rate", 3.3),
    ("v", "q", 47 * HOUR, 48 * HOUR + 1, "view", 1.0),
    ("too late", "q", 47 * HOUR, 90 * HOUR, "view", 1.0),
]


@pytest.mark.parametrize(("accuracy", "expected"), [("snapshot", {"u", "v"}), ("exact", {"u", "v", "too late"})])
def test_a_snapshot_s_row_is_what_an_example_at_its_clock_gets(spark, accuracy, expected) -> None:
    options = PreferenceOptions.model_validate(
        {"accuracy": accuracy, "statistics": STATISTICS, "recent": ("item_id",), "windows": ("1d", "lifetime")}
    )
    events = spark.createDataFrame(LOG, spark_schema(INTERACTIONS))
    priors = {"stars_mean": 3.0}
    moment = serving_moment(events, options)
    served = snapshot(
        events, events, key="user_id", entity="user", moment=moment, options=options, priors=priors
    ).collect()
    assert served[0].asDict().keys() == set(snapshot_contract("user", options).names)
    assert {row["entity_id"] for row in served} == expected
    assert {(row["snapshot_time"], row["served_from"]) for row in served} == {(moment.as_of, moment.served_from)}
    as_of, known_by = clock_columns(F.lit(moment.served_from), options)
    example = events.select("user_id").distinct().withColumns({"as_of": as_of, "known_by": known_by})
    example = attach_statistics(example, events, key="user_id", entity="user", options=options, priors=priors)
    rows = {row["user_id"]: row for row in attach_recent(example, events, options=options).collect()}
    names = [*statistic_names("user", options), *bag_names(options)]
    for row in served:
        assert [row[name] for name in names] == [rows[row["entity_id"]][name] for name in names]
