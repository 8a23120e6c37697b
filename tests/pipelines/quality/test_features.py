"""The gate behind the join: what each kind of feature may be, what is refused, and what is only said."""

import pyarrow as pa
import pytest

from pipelines.config import load_config, parse_config
from pipelines.errors import ConfigError, QualityGateError
from pipelines.features import feature_set
from pipelines.quality.data_docs import page
from pipelines.quality.features import bounds, check_features
from pipelines.storage import arrow_schema
from schemas.preferences import US_PER_DAY
from schemas.profile import PROFILE
from schemas.to_expectations import LARGEST

SMALL = {"name": "x", "seed": 1, "labels": {"rule": "sampled", "positive_actions": ["click"]}}
STATISTICS = [
    {"name": "click", "kind": "count"},
    {"name": "click", "kind": "rate", "actions": ["click"]},
    {"name": "seen", "kind": "rate", "actions": ["click"], "of_actions": ["impression"]},
    {"name": "stars", "kind": "mean"},
    {"name": "stars", "kind": "sum"},
    {"name": "click", "kind": "days_since"},
    {"name": "click", "kind": "decayed", "half_life": "7d"},
    {"name": "click", "kind": "distinct"},
    {"name": "x_click", "kind": "rate", "actions": ["click"], "of_actions": ["impression"]},
]


def config(**sections):
    preferences = {"windows": ["7d"], "entities": ["user"], "statistics": STATISTICS}
    users = {"path": "u", "id": "u", "columns": {"age": {"kind": "number"}, "town": {"kind": "category"}}}
    raw = {"preferences": preferences, "source": {"users": [users]}, **sections}
    return parse_config({**SMALL, **raw})


def profile(settings, days=30, **changed) -> pa.Table:
    """Every feature fine and half missing on every day; `changed`: feature={figure: value} on day 20."""
    rows = [
        {
            "feature": column.name, "since": day * US_PER_DAY, "split": "train", "rows": 1000, "missing": 500,
            "entities": 400,
            **({"lowest": 0.5, "highest": 0.75, "mean": 0.6, "std": 0.1} if column.type == "float64" else {}),
            **(changed.get(column.name, {}) if day == 20 else {}),
        }
        for column in feature_set(settings).columns for day in range(days)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=arrow_schema(PROFILE)).sort_by(
        [(name, "ascending") for name in PROFILE.key]
    )


def test_what_a_feature_may_be_follows_from_its_kind() -> None:
    found = bounds(config(quality={"weight_range": [1, 5]}))
    tiny = 1e-6
    assert {name.removeprefix("user_"): ends for name, ends in found.items()} == {
        "age": (-LARGEST, LARGEST),
        "click_count_7d": (0, LARGEST),
        "click_rate_7d": (0, 1),
        "seen_rate_7d": (0, LARGEST),  # the impression of a click may lie before the window
        "stars_mean_7d": (pytest.approx(1, abs=tiny), pytest.approx(5, abs=tiny)),
        "stars_sum_7d": (0, LARGEST),
        "click_days_since_lifetime": (0, LARGEST),
        "click_decayed_7d": (0, LARGEST),
        "click_distinct_7d": (0, LARGEST),
        "x_click_rate_7d": (0, LARGEST),  # and no click_rate_7d
    }
    free = bounds(config())
    assert free["user_stars_mean_7d"] == free["user_stars_sum_7d"] == (-LARGEST, LARGEST)


def test_every_number_of_the_example_configurations_is_bounded() -> None:
    for name in ("demo", "movielens", "globo"):
        settings = load_config([f"conf/{name}.yaml"])
        numbers = [column.name for column in feature_set(settings).columns if column.type == "float64"]
        assert list(bounds(settings)) == numbers
        assert all(bounds(settings)[n][0] == 0 for n in numbers if "_count_" in n or "_rate_" in n or "_since_" in n)


def test_a_content_column_that_is_called_like_a_statistic_is_content() -> None:
    users = {"path": "u", "id": "u", "columns": {"own_click_count_7d": {"kind": "number"}}}
    assert bounds(config(source={"users": [users]}))["user_own_click_count_7d"] == (-LARGEST, LARGEST)


def test_features_that_are_as_they_may_be_pass_with_an_expectation_for_each_end() -> None:
    settings = config()
    found = check_features(profile(settings), settings)
    assert found.notes == ()
    assert found.facts == {"features": 11, "expectations": 20, "missing_everywhere": [], "drifted": 0}
    assert all(verdict["success"] for verdict in found.report["expectations"])
    assert found.report["features"]["user_age"] == {"missing_share": 0.5, "lowest": 0.5, "highest": 0.75, "mean": 0.6}
    assert found.report["features"]["user_town"]["mean"] is None


@pytest.mark.parametrize(
    ("feature", "figures", "said"),
    [
        ("user_click_count_7d", {"lowest": -1.0}, "user_click_count_7d must be at least 0, got -1 in the period from"),
        ("user_click_rate_7d", {"highest": 1.25}, "must be at least 0 and at most 1, got 1.25 in the period from"),
        ("user_click_days_since_lifetime", {"lowest": -0.5}, "must be at least 0, got -0.5"),
        ("user_age", {"highest": float("inf")}, "user_age must be finite, got inf"),
        ("user_seen_rate_7d", {"highest": float("inf")}, "user_seen_rate_7d must be at least 0, got inf"),
    ],
)
def test_a_value_that_its_kind_cannot_have_is_refused_with_the_day(feature, figures, said) -> None:
    settings = config()
    with pytest.raises(QualityGateError) as caught:
        check_features(profile(settings, **{feature: figures}), settings)
    assert caught.value.exit_code == 3
    assert said in str(caught.value) and "1970-01-21 (train)" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_last_digit_of_a_quotient_is_no_fault() -> None:
    settings = config()
    check_features(profile(settings, user_click_rate_7d={"highest": 1.0000000000000002}), settings)


def test_a_feature_missing_in_every_row_is_a_note() -> None:
    settings, table = config(), profile(config())
    rows = table.to_pylist()
    for row in rows:
        if row["feature"] == "user_age":
            row.update(missing=1000, lowest=None, highest=None, mean=None, std=None)
    found = check_features(pa.Table.from_pylist(rows, schema=table.schema), settings)
    assert found.notes == ("user_age is missing in every example: nothing can be learned from it",)
    assert found.facts["missing_everywhere"] == ["user_age"]


def test_features_without_any_value_are_notes_and_nothing_more() -> None:
    users = {"path": "u", "id": "u", "columns": {"age": {"kind": "number"}}}
    settings = config(source={"users": [users]}, features={"max_missing_share": {"user_age": 1}, "max_drift": 99})
    rows = [
        {**row, "missing": 1000, "lowest": None, "highest": None, "mean": None, "std": None}
        for row in profile(settings).to_pylist()
    ]
    found = check_features(pa.Table.from_pylist(rows, schema=arrow_schema(PROFILE)), settings)
    assert len(found.notes) == 10
    nothing = check_features(pa.Table.from_pylist(rows, schema=arrow_schema(PROFILE)), config())
    assert nothing.facts["expectations"] == 0
    assert "Evaluated Expectations" in page(nothing.outcome)


def test_a_missing_share_above_its_maximum_is_refused_and_the_strictest_pattern_counts() -> None:
    settings = config(features={"max_missing_share": {"*": 0.9, "user_click*": 0.6, "user_click_count_*": 0.4}})
    with pytest.raises(QualityGateError) as caught:
        check_features(profile(settings), settings)
    (line,) = str(caught.value).splitlines()
    assert line == (
        "user_click_count_7d must be missing in at most 40.0% of the examples (features.max_missing_share), got 50.0%; "
        "mend its source, or allow more"
    )


def test_drift_is_a_note_until_a_maximum_is_set() -> None:
    settings = config()
    table = profile(settings, user_age={"mean": 0.7, "missing": 0}, user_click_count_7d={"mean": 0.74})
    found = check_features(table, settings)
    (note,) = found.notes
    assert note == (
        "2 features drift by more than features.drift_warning; the farthest is user_click_count_7d: mean 0.74 in the "
        "period from 1970-01-21, usual 0.6 (drift 23.3)"
    )
    assert found.facts["drifted"] == 2
    assert {drift["feature"] for drift in found.report["drift"]} == {"user_age", "user_click_count_7d"}
    strict = config(features={"max_drift": 12})
    with pytest.raises(QualityGateError) as caught:
        check_features(table, strict)
    assert caught.value.exit_code == 3
    assert "user_age must not drift by more than 12 (features.max_drift), got user_age: missing share 0" in str(
        caught.value
    )


def test_a_pattern_that_names_no_feature_is_a_configuration_error_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'user_agee' is none; did you mean `user_age`\?"):
        feature_set(config(features={"max_missing_share": {"user_agee": 0.5}}))
