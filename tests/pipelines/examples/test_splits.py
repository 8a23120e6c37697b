import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from pipelines.config import SplitOptions
from pipelines.errors import ConfigError, InputError
from pipelines.examples.splits import fit_cuts, in_training_period, is_mature, split_of
from schemas.fitted import Cuts

HOUR = 3_600_000_000


def times(spark, values):
    return spark.createDataFrame([(int(v),) for v in values], "event_time long")


def test_of_ten_events_with_a_tenth_each_the_ninth_starts_validation_and_the_tenth_test(spark) -> None:
    cuts = fit_cuts(times(spark, range(0, 100, 10)), SplitOptions(validation_share=0.1, test_share=0.1))
    assert cuts == Cuts(validation_start=80, test_start=90, end=90)


@settings(max_examples=8, deadline=None)
@given(
    values=st.lists(st.integers(-3 * HOUR, 3 * HOUR), min_size=1, max_size=40),
    shares=st.tuples(st.floats(0, 0.5), st.floats(0, 0.45)),
)
def test_cuts_are_the_exact_quantiles_in_any_order_of_the_rows(spark, values, shares) -> None:
    validation, test = shares
    cuts = fit_cuts(times(spark, values), SplitOptions(validation_share=validation, test_share=test))
    ordered, n = np.sort(values), len(values)
    assert cuts.validation_start == ordered[min(n - 1, int(n * (1 - validation - test) + 1e-9))]
    assert cuts.test_start == ordered[min(n - 1, int(n * (1 - test) + 1e-9))]
    assert cuts.end == ordered[-1]


def test_configured_dates_are_utc_unless_they_say_otherwise(spark) -> None:
    options = SplitOptions(validation_start="1970-01-02", test_start="1970-01-03T01:00:00+01:00")
    cuts = fit_cuts(times(spark, [5]), options)
    assert (cuts.validation_start, cuts.test_start) == (24 * HOUR, 48 * HOUR)


def test_a_log_with_nothing_to_label_is_refused(spark) -> None:
    with pytest.raises(InputError, match="found none"):
        fit_cuts(times(spark, []), SplitOptions())


def test_cuts_in_the_wrong_order_and_times_that_are_none_are_refused(spark) -> None:
    with pytest.raises(ConfigError, match="must lie before"):
        fit_cuts(times(spark, [5]), SplitOptions(validation_start="2020-01-02", test_start="2020-01-02"))
    with pytest.raises(ConfigError, match=r"split\.test_start must be a date, got 'tomorrow'"):
        fit_cuts(times(spark, [5]), SplitOptions(validation_start="2020-01-02", test_start="tomorrow"))


def test_each_split_is_right_open_and_its_labels_must_be_known_before_the_next_begins(spark) -> None:
    cuts = Cuts(validation_start=100, test_start=200, end=300)
    rows = spark.createDataFrame(
        [(99, 100), (99, 101), (100, 200), (199, 201), (200, 10**9)], "event_time long, label_time long"
    )
    t, known = F.col("event_time"), F.col("label_time")
    found = rows.select(split_of(t, cuts).alias("split"), is_mature(t, known, cuts).alias("mature")).collect()
    assert [tuple(r) for r in found] == [
        ("train", True),
        ("train", False),
        ("validation", True),
        ("validation", False),
        ("test", True),
    ]


def test_of_a_log_read_as_of_a_moment_the_tests_labels_must_have_closed_before_it(spark) -> None:
    cuts = Cuts(validation_start=100, test_start=200, end=299, as_of=300)
    rows = spark.createDataFrame([(250, 299), (250, 300), (99, 100)], "event_time long, label_time long")
    mature = rows.select(is_mature(F.col("event_time"), F.col("label_time"), cuts)).collect()
    assert [row[0] for row in mature] == [True, False, True]


def test_an_event_belongs_to_the_training_period_only_if_it_had_arrived_by_its_end(spark) -> None:
    cuts = Cuts(validation_start=100, test_start=200, end=300)
    rows = spark.createDataFrame([(99, 100), (99, 101), (100, 100)], "event_time long, available_time long")
    assert [r[0] for r in rows.select(in_training_period(cuts)).collect()] == [True, False, False]
