"""Shared tallies, exact sums of weights, and the limits that are refused with a remedy."""

import pytest

from pipelines.config import PreferenceOptions
from pipelines.errors import ConfigError, InputError
from pipelines.preferences.priors import fit_priors
from pipelines.preferences.tallies import check_weights, tallies
from schemas.interactions import INTERACTIONS
from schemas.to_spark import spark_schema

SMOOTHED = PreferenceOptions.model_validate(
    {
        "windows": ("7d",),
        "statistics": [
            {"name": "click", "kind": "count", "actions": ["click"]},
            {"name": "click", "kind": "rate", "actions": ["click"], "of_actions": ["view"]},
            {"name": "paid", "kind": "mean", "actions": ["click"]},
        ],
    }
)


def test_statistics_share_their_tallies() -> None:
    assert [(total.choice.actions, total.of) for total in tallies(SMOOTHED).sums] == [
        (("click",), "events"), (("view",), "events"), (("click",), "weights"),
    ]  # fmt: skip


def test_priors_are_overall_values_of_what_was_known_before_the_cut(spark) -> None:
    log = [
        ("u", "p", 1, 1, "view", 1.0), ("u", "p", 2, 9, "view", 1.0), ("u", "q", 3, 3, "click", 2.5),
        ("u", "q", 4, 11, "click", 7.0), ("v", "q", 10, 10, "click", 7.0),
    ]  # fmt: skip
    events = spark.createDataFrame(log, spark_schema(INTERACTIONS))
    assert fit_priors(events, 10, SMOOTHED) == {"click_rate": 0.5, "paid_mean": 2.5}
    assert fit_priors(events, 0, SMOOTHED) == {"click_rate": 0.0, "paid_mean": 0.0}


def test_weights_too_large_to_be_summed_exactly_are_refused(spark) -> None:
    events = spark.createDataFrame([("u", "p", 1, 1, "click", -5e12)], spark_schema(INTERACTIONS))
    check_weights(events, PreferenceOptions())
    with pytest.raises(InputError, match=r"at most 4\.4e\+12 .* got 5e\+12; set quality.weight_range"):
        check_weights(events, SMOOTHED)


def test_too_many_ways_to_choose_events_are_refused() -> None:
    statistics = [{"name": f"at_least_{i}", "kind": "count", "min_weight": i} for i in range(63)]
    with pytest.raises(ConfigError, match="at most 62 ways, got 63"):
        tallies(PreferenceOptions.model_validate({"statistics": statistics}))
