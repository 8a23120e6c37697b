"""Clocks by hand, and the same in numpy and Spark."""

import numpy as np
from pyspark.sql import functions as F

from pipelines.config import PreferenceOptions
from pipelines.preferences.clock import clock, clock_columns, latest_moment

HOUR = 3_600_000_000
DAY = 24 * HOUR
SNAPSHOT = PreferenceOptions(accuracy="snapshot", period="1d", landing_delay="1h", publish_delay="2h")
EXACT = PreferenceOptions(accuracy="exact")


def test_an_example_gets_the_latest_snapshot_that_is_served_by_then() -> None:
    times = np.array([DAY + 2 * HOUR - 1, DAY + 2 * HOUR, 2 * DAY + HOUR, -DAY + 2 * HOUR, -DAY + 2 * HOUR - 1])
    as_of, known_by = clock(times, SNAPSHOT)
    assert as_of.tolist() == [0, DAY, DAY, -DAY, -2 * DAY]
    assert (known_by - as_of).tolist() == [HOUR] * 5


def test_the_exact_clock_is_the_event_s_own_time() -> None:
    times = np.array([5, 7])
    assert [part.tolist() for part in clock(times, EXACT)] == [[5, 7], [5, 7]]


def test_spark_columns_have_the_same_clock_also_before_1970(spark) -> None:
    times = np.array([-3 * DAY, -DAY - 1, -1, 0, 2 * HOUR, 20_000 * DAY + 5])
    frame = spark.createDataFrame([(int(time),) for time in times], "event_time long")
    rows = frame.select(*clock_columns(F.col("event_time"), SNAPSHOT)).collect()
    assert [tuple(row) for row in rows] == list(zip(*(part.tolist() for part in clock(times, SNAPSHOT)), strict=True))


def test_serving_starts_from_the_first_boundary_after_every_event() -> None:
    assert latest_moment(DAY - 1, DAY, SNAPSHOT) == (DAY, DAY + HOUR, DAY + 2 * HOUR)
    assert latest_moment(DAY, DAY, SNAPSHOT).as_of == 2 * DAY
    assert latest_moment(DAY, DAY + 3, EXACT) == (DAY + 4, DAY + 4, DAY + 4)
