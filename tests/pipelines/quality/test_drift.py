"""Drift: what strays is found on its day, and what is honest is left alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.quality.drift import MIN_ENTITIES, drifts
from pipelines.storage import arrow_schema
from schemas.preferences import US_PER_DAY
from schemas.profile import PROFILE


def profile(means, missing=None, rows=1000, std=1.0, entities=500, splits=("train",), feature="f") -> pa.Table:
    """A feature's days, each given whole to every split."""
    missing = np.zeros(len(means)) if missing is None else np.asarray(missing)
    return pa.Table.from_pylist(
        [
            {
                "feature": feature, "since": day * US_PER_DAY, "split": split, "rows": rows,
                "missing": int(share * rows), "entities": entities, "lowest": mean - 3, "highest": mean + 3,
                "mean": mean, "std": std,
            }
            for split in splits for day, (mean, share) in enumerate(zip(means, missing, strict=True))
        ],
        schema=arrow_schema(PROFILE),
    )  # fmt: skip


def worst(table, measure="mean", periods=14):
    return next((drift for drift in drifts(table, periods) if drift.measure == measure), None)


def noise(days, seed=0, spread=0.05):
    return 5 + np.random.default_rng(seed).normal(0, spread, days)


def test_a_day_that_jumps_is_found_with_its_value_and_what_was_usual() -> None:
    means = noise(40)
    means[30] = 8.0
    found = worst(profile(means))
    assert (found.since, found.value) == (30 * US_PER_DAY, 8.0)
    assert found.usual == pytest.approx(5, abs=0.1) and found.score > 20
    assert str(found).startswith("f: mean 8 in the period from 1970-01-31, usual 4.999")


def test_values_that_go_missing_are_found_though_their_mean_stays() -> None:
    table = profile(noise(40), missing=[0.1] * 35 + [0.6] * 5)
    assert worst(table, "missing share").since == 35 * US_PER_DAY
    assert worst(table, "missing share").score > 20 > worst(table).score


@given(st.integers(0, 10_000))
def test_honest_noise_of_any_seed_stays_below_the_warning(seed) -> None:
    assert worst(profile(noise(60, seed))).score < 10


def test_a_log_that_begins_empty_and_fills_is_no_drift() -> None:
    days = np.arange(60)
    filling = profile(100 * (1 - np.exp(-days / 10)), missing=np.exp(-days / 5), std=30.0)
    assert all(drift.score < 10 for drift in drifts(filling, 14))


def test_steady_growth_is_no_drift() -> None:
    assert worst(profile(np.arange(60) * 10.0, std=50.0)).score < 10


def test_a_feature_that_never_changed_and_then_does_a_little_is_let_be_and_a_lot_is_not() -> None:
    assert worst(profile([2.0] * 20 + [2.01], std=0.0)).score < 10
    assert worst(profile([2.0] * 20 + [3.0], std=0.0)).score > 10
    assert worst(profile([2.0] * 21, std=0.0)).score == 0


def test_days_of_few_users_are_neither_judged_nor_remembered() -> None:
    table = profile([5.0] * 20 + [50.0], entities=MIN_ENTITIES - 1)
    assert drifts(table, 14) == []


def test_so_many_days_must_be_remembered_before_one_is_judged() -> None:
    means = [5.0] * 13 + [50.0]
    assert worst(profile(means)) is None
    assert worst(profile(means), periods=13).since == 13 * US_PER_DAY


def test_splits_of_one_day_are_one_day() -> None:
    means = noise(30)
    assert worst(profile(means, splits=("test", "train"))).value == pytest.approx(worst(profile(means)).value)
