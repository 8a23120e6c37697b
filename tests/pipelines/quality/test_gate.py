import pytest

from pipelines.errors import QualityGateError, SourceError, ThawError
from pipelines.quality.gate import Reason, Tally, check_shares, expect, tally, verdicts
from schemas.interactions import INTERACTIONS
from schemas.to_expectations import suite
from schemas.to_spark import spark_schema

HOUR = 1_700_000_000_000_000
GOOD = [("u", "i", HOUR, HOUR, "click", 1.0), ("u", "j", HOUR, HOUR + 1, "click", 2.0)]


def test_too_many_bad_rows_stop_the_run_and_the_message_shows_rule_and_rows() -> None:
    found = {"interactions[0]": [Reason("event_time: after 2100-01-01; is unit: s right?", 6, (("a.csv", '{"t":1}'),))]}
    check_shares({"interactions[0]": Tally(100, 94, 6, 0)}, found, 0.06)
    with pytest.raises(QualityGateError) as error:
        check_shares({"interactions[0]": Tally(100, 94, 6, 0)}, found, 0.05)
    assert error.value.exit_code == 3
    for words in ("interactions[0]: 6 of 100", "at most 5.0%", "is unit: s right? (6 rows)", 'a.csv: {"t":1}'):
        assert words in str(error.value)


def test_a_log_whose_times_lack_a_zone_is_an_open_question_not_bad_data() -> None:
    found = {"interactions[0]": [Reason("event_time: a time without a zone", 6, (("a.csv", "{}"),))]}
    with pytest.raises(SourceError, match=r"set source.interactions\[0\].event_time.zone, such as zone: UTC"):
        check_shares({"interactions[0]": Tally(10, 4, 6, 0)}, found, 1.0)


def test_rows_that_were_lost_are_a_fault_of_ours() -> None:
    Tally(3, 1, 1, 1).check("log")
    with pytest.raises(ThawError, match="must equal") as error:
        Tally(3, 1, 1, 0).check("log")
    assert error.value.exit_code == 1


def test_rows_are_counted_by_source_and_reason_with_examples(spark) -> None:
    rows = [("s", "f", None, None, False)] * 3 + [("s", "f", None, None, True)]
    rows += [("s", "f", "r", f"row{n}", False) for n in (2, 1, 3)]
    marked = spark.createDataFrame(rows, "source string, file string, reason string, row string, copy boolean")
    tallies, reasons = tally(marked, {"s": lambda: 7, "none": lambda: 0})
    assert tallies == {"s": Tally(7, 3, 3, 1), "none": Tally()}
    assert reasons == {"s": [Reason("r", 3, (("f", "row1"), ("f", "row3")))], "none": []}


def test_a_row_that_was_read_and_not_judged_is_a_fault_of_ours(spark) -> None:
    marked = spark.createDataFrame(
        [("s", "f", None, None, False)], "source string, file string, reason string, row string, copy boolean"
    )
    tallies, _ = tally(marked, {"s": lambda: 2})
    with pytest.raises(ThawError, match="s: 2 rows in = 1 out"):
        tallies["s"].check("s")


def test_great_expectations_pass_a_clean_frame_and_leave_no_files(spark, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = spark.createDataFrame(GOOD, spark_schema(INTERACTIONS)).persist()
    results = verdicts(expect(frame, suite(INTERACTIONS, allowed={"action": ["click"]}, min_rows=1)))
    assert len(results) >= 15 and all(result["success"] for result in results)
    assert frame.is_cached and not list(tmp_path.iterdir())
    frame.unpersist()


def test_a_failed_expectation_is_named_with_the_values_that_break_it(spark) -> None:
    bad = [*GOOD, ("u", "k", HOUR, HOUR - 1, "click", float("nan")), (None, "k", 5, 5, "view", 1.0)]
    frame = spark.createDataFrame(bad, spark_schema(INTERACTIONS)).persist()
    rules = suite(INTERACTIONS, allowed={"action": ["click"]}, ranges={"event_time": (10, HOUR), "weight": (0, 5)})
    with pytest.raises(QualityGateError) as error:
        expect(frame, rules)
    text = str(error.value)
    assert len(text.splitlines()) == 5
    for words in (
        "not_be_null(column=user_id) failed: 1 of 4 rows",
        "between(column=event_time, max_value=1700000000000000.0, min_value=10.0) failed: 1 of 4 rows",
        "break it, such as [5]",
        "in_set(column=action, value_set=['click']) failed: 1 of 4 rows break it, such as ['view']",
        "column=weight",
        "column_A=available_time",
    ):
        assert words in text
    frame.unpersist()
