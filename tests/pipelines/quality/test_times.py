import datetime as dt

import pytest
from pyspark.sql import functions as F

from pipelines.config import TimeColumn, utc_microseconds
from pipelines.errors import ConfigError, SourceError
from pipelines.quality.times import NO_ZONE, check_time, parse_time

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
NOON = utc_microseconds("2024-07-01T12:00:00Z", "test")


def us(text):
    return utc_microseconds(text, "test")


CASES = [
    # unit, zone, format, text, microseconds, problem
    ("s", None, None, "1719835200", NOON, None),
    ("s", None, None, "1719835200.25", NOON + 250_000, None),
    ("s", None, None, "1.7198352e9", NOON, None),
    ("ms", None, None, "1719835200001", NOON + 1_000, None),
    ("us", None, None, "-1", -1, None),
    ("ns", None, None, "1719835200000001999", NOON + 1, None),
    ("ns", None, None, "-1", -1, None),
    ("ms", None, None, "99999999999999999999999999999999", None, "not a time in ms"),
    ("s", None, None, "NaN", None, "not a time in s"),
    ("s", None, None, " ", None, "empty"),
    ("s", None, None, None, None, "empty"),
    ("iso", None, None, "2024-07-01T12:00:00Z", NOON, None),
    ("iso", None, None, "2024-07-01 14:00:00+02:00", NOON, None),
    ("iso", "Asia/Tokyo", None, "2024-07-01T12:00:00Z", NOON, None),
    ("iso", "Europe/Oslo", None, "2024-07-01T14:00:00", NOON, None),
    ("iso", "Europe/Oslo", None, "2024-07-01", us("2024-06-30T22:00:00Z"), None),
    ("iso", None, None, "2024-07-01T14:00:00.5", None, NO_ZONE),
    ("iso", None, None, "12:30:00", None, "not a time in iso"),
    ("iso", None, None, "soon", None, "not a time in iso"),
    ("format", "Europe/Oslo", "dd/MM/yyyy HH:mm", "01/07/2024 14:00", NOON, None),
    ("format", None, "dd/MM/yyyy HH:mm XXX", "01/07/2024 14:00 +02:00", NOON, None),
    ("format", "UTC", "dd/MM/yyyy", "13/13/2024", None, "not a time in dd/MM/yyyy"),
]


def test_times_of_every_unit_become_utc_microseconds_or_say_what_is_wrong(spark) -> None:
    frame = spark.createDataFrame([(case[3],) for case in CASES], "text string").coalesce(1)
    frame = frame.withColumn("n", F.monotonically_increasing_id())
    parsed = []
    for unit, zone, pattern, *_ in CASES:
        time = TimeColumn(column="text", unit=unit, zone=zone, format=pattern)
        parsed.append(F.struct(*parse_time(F.col("text"), frame.schema["text"].dataType, time, "k")))
    rows = {row["n"]: row["all"] for row in frame.select("n", F.array(*parsed).alias("all")).collect()}
    for n, case in enumerate(CASES):
        moment, problem = rows[n][n]
        assert (None if problem else moment, problem) == case[4:], case


OSLO = [
    # local text, UTC
    ("2024-10-27 01:59:59", "2024-10-26T23:59:59Z"),
    ("2024-10-27 02:00:00", "2024-10-27T00:00:00Z"),  # this hour comes twice: its first coming is meant
    ("2024-10-27 02:59:59", "2024-10-27T00:59:59Z"),
    ("2024-10-27 03:00:00", "2024-10-27T02:00:00Z"),
    ("2024-10-27 02:30:00+01:00", "2024-10-27T01:30:00Z"),  # an offset in the text says which
    ("2024-03-31 01:59:59", "2024-03-31T00:59:59Z"),
    ("2024-03-31 02:30:00", "2024-03-31T01:30:00Z"),  # this hour never was: the clock is taken for one not yet set
    ("2024-03-31 03:30:00", "2024-03-31T01:30:00Z"),
]


@pytest.mark.parametrize("pattern", [None, "yyyy-MM-dd HH:mm:ss"])
def test_local_times_across_a_change_of_clocks_are_those_of_the_zone_that_is_given(spark, pattern) -> None:
    cases = [case for case in OSLO if pattern is None or "+" not in case[0]]
    frame = spark.createDataFrame([(text,) for text, _ in cases], "text string")
    time = TimeColumn(column="text", zone="Europe/Oslo", unit="format" if pattern else "iso", format=pattern)
    moment, problem = parse_time(F.col("text"), frame.schema["text"].dataType, time, "k")
    found = {row["text"]: (row["moment"], row["problem"]) for row in frame.select(
        "text", moment.alias("moment"), problem.alias("problem")
    ).collect()}  # fmt: skip
    assert found == {text: (us(utc), None) for text, utc in cases}


def test_local_times_across_a_change_of_clocks_are_refused_where_no_zone_is_given(spark) -> None:
    frame = spark.createDataFrame([(text,) for text, _ in OSLO if "+" not in text], "text string")
    _, problem = parse_time(F.col("text"), frame.schema["text"].dataType, TimeColumn(column="text"), "k")
    assert {row["p"] for row in frame.select(problem.alias("p")).collect()} == {NO_ZONE}


def test_a_column_that_cannot_be_what_the_configuration_says_is_refused_as_a_whole(spark) -> None:
    types = spark.sql("select 1L n, timestamp_ntz'2024-01-01' local, timestamp'2024-01-01' instant, 'x' text").schema

    def parse(name, **time):
        parse_time(F.col(name), types[name].dataType, TimeColumn(column=name, **time), "interactions[0].event_time")

    with pytest.raises(SourceError, match=r"'n' holds bigint, which unit: iso .*; set unit: s, ms, us or ns"):
        parse("n")
    with pytest.raises(SourceError, match="it has no zone: set zone"):
        parse("local")
    with pytest.raises(SourceError, match="set unit: iso"):
        parse("instant", unit="ms")
    with pytest.raises(SourceError, match=r"guessing one would move every event; set .*zone"):
        parse("text", unit="format", format="yyyy-MM-dd 'Z'")


def test_zones_and_patterns_are_checked_before_any_row_is_read(spark) -> None:
    with pytest.raises(ConfigError, match="zone must be a time zone, got 'Mars/Base'"):
        check_time(spark, TimeColumn(column="t", zone="Mars/Base"), "k")
    with pytest.raises(ConfigError, match="must be a Spark datetime pattern, got 'bbb'"):
        check_time(spark, TimeColumn(column="t", unit="format", format="bbb", zone="UTC"), "k")
    with pytest.raises(ConfigError, match=r"set format"):
        check_time(spark, TimeColumn(column="t", unit="format"), "k")
    with pytest.raises(ConfigError, match="must be a date"):
        utc_microseconds("yesterday", "quality.earliest")
    check_time(spark, TimeColumn(column="t", unit="format", format="dd/MM/yyyy", zone="+01:00"), "k")
