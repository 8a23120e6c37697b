from pipelines.config import Horizon
from pipelines.quality.sight import content_in_sight, events_of_last_period, log_in_sight
from schemas.columns import TIME_MIN_US

HORIZON = Horizon(as_of=100, known_by=110)


def test_a_day_sees_what_happened_before_its_end_and_had_landed(spark) -> None:
    rows = [("a", 99, 110), ("b", 100, 105), ("c", 99, 111), ("d", None, None), ("e", 5, None)]
    judged = spark.createDataFrame(rows, "row string, event_time long, available_time long")
    seen, (later,) = log_in_sight(judged, HORIZON)
    # A row whose times cannot be read is left for the quarantine.
    assert [row["row"] for row in seen.sort("row").collect()] == ["a", "d", "e"]
    assert later.get["rows"] == 2
    assert events_of_last_period(seen, HORIZON, 10) == 1 and events_of_last_period(seen, HORIZON, 1) == 1


def test_a_day_sees_content_that_was_valid_by_then_and_what_has_no_date(spark) -> None:
    rows = [
        ("a", 110, None), ("b", 111, None), ("c", TIME_MIN_US, 110), ("d", TIME_MIN_US, 111), ("e", TIME_MIN_US, None),
        ("f", 50, 111), ("g", None, None),
    ]  # fmt: skip
    judged = spark.createDataFrame(rows, "row string, valid_from long, created_at long")
    seen, (later,) = content_in_sight(judged, HORIZON)
    assert [row["row"] for row in seen.sort("row").collect()] == ["a", "c", "e", "f", "g"]
    assert later.get["rows"] == 2


def test_without_a_moment_everything_is_seen(spark) -> None:
    frame = spark.range(1)
    assert log_in_sight(frame, None) == (frame, []) and content_in_sight(frame, None) == (frame, [])
