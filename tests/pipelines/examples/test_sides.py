"""A side's features at its moments: one row a moment, whatever columns are called and whatever is unknown."""

from pyspark.sql import functions as F

from pipelines.examples.sides import NO_VERSION, item_side, join_side, moments, user_side, with_version
from pipelines.examples.tables import Tables
from schemas.content import content_table
from schemas.fitted import Cuts, Fitted
from schemas.to_spark import spark_schema

FITTED = Fitted(cuts=Cuts(validation_start=100, test_start=150, end=200), priors={"click_rate": 0.5})
SOURCE = {
    "interactions": [{"path": "log", "user_id": "u", "item_id": "i", "event_time": {"column": "t"}}],
    "items": [{"path": "x", "id": "x", "columns": {"version": {"kind": "category"}, "key": {"kind": "category"}}}],
}


def test_content_may_be_named_like_what_the_join_uses_itself(spark, log, config) -> None:
    settings = config(
        source={**SOURCE, "users": []},
        preferences={"entities": ["user", "item", "item.version"], "recent": ["version", "key"]},
    )
    contract = content_table("item", settings.content_kinds("item"))
    rows = [("i", 0, None, None, "one", "c"), ("i", 60, None, None, "two", "d")]
    users = spark.createDataFrame([], spark_schema(content_table("user", {})))
    tables = Tables(log("u i 50 click"), spark.createDataFrame(rows, spark_schema(contract)), users)
    asked = spark.createDataFrame(
        [("i", "u", 55, 55, 55), ("i", "u", 75, 75, 75), ("new", "new", 75, 75, 75)],
        "item_id string, user_id string, event_time long, as_of long, known_by long",
    )
    asked = with_version(with_version(asked, tables.items, "item"), tables.users, "user")
    assert {row["_user_version"] for row in asked.collect()} == {NO_VERSION}
    found = join_side(asked, item_side(moments(asked, "item"), tables, settings, FITTED), "item")
    found = join_side(found, user_side(moments(asked, "user"), tables, settings, FITTED), "user")
    read = {(row["item_id"], row["event_time"]): row for row in found.collect()}
    assert {key: (row["item_version"], row["item_key"]) for key, row in read.items()} == {
        ("i", 55): ("one", "c"),
        ("i", 75): ("two", "d"),
        ("new", 75): (None, None),
    }
    assert [read["i", t]["item_version_click_count_lifetime"] for t in (55, 75)] == [1, None]
    assert [read["i", t]["user_recent_key"] for t in (55, 75)] == [["c"], ["c"]]
    assert read["i", 75]["max_event_time"] == 50 and read["new", 75]["max_event_time"] is None


def test_rows_of_one_moment_share_it_and_none_is_lost_or_doubled(spark, log, catalogue, config) -> None:
    settings = config()
    tables = Tables(log("u i 50 click", "v i 60 click"), catalogue("i 0 - red", "i 58 - blue"), catalogue(side="user"))
    asked = spark.range(9).select(
        F.concat(F.lit("n"), "id").alias("name"),
        F.when(F.col("id") % 3 == 0, "i").otherwise("none").alias("item_id"),
        (F.lit(55) + F.col("id") % 2 * 10).alias("event_time"),
        F.lit(70).alias("as_of"),
        F.lit(71).alias("known_by"),
    )
    asked = with_version(asked, tables.items, "item")
    side = item_side(moments(asked, "item"), tables, settings, FITTED)
    assert side.count() == 3  # the item in both its versions, and what nothing is known of
    found = join_side(asked, side, "item").collect()
    assert sorted(row["name"] for row in found) == [f"n{i}" for i in range(9)]
    assert {row["item_click_count_lifetime"] for row in found if row["item_id"] == "i"} == {2}
