import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.evaluation.calibration import BINS, Bin, bins_of, calibration_sample, reliability
from pipelines.evaluation.intervals import user_weights


def probabilities(logits) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def error_of(predicted, labels) -> float:
    users = np.arange(len(labels))
    return calibration_sample(predicted, labels, users, user_weights(len(labels), 5, seed=1)).value


def test_a_bin_says_half_and_is_right_in_half() -> None:
    curve = reliability(np.array([0.5, 0.5, 0.9, 0.9]), np.array([True, False, True, True]), bins=2)
    assert curve == [Bin(0.5, 0.5, 2), Bin(0.9, 1.0, 2)]


def test_who_is_right_on_average_has_no_error_and_who_always_says_more_has_that_much() -> None:
    labels = np.tile([True, False, False, False], 50)
    assert error_of(np.full(200, 0.25), labels) == pytest.approx(0)
    assert error_of(np.full(200, 0.35), labels) == pytest.approx(0.1)


def test_drawn_labels_are_well_calibrated_and_shifted_logits_are_not() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(-2, 1, 20_000)
    labels = generator.random(20_000) < probabilities(logits)
    assert error_of(probabilities(logits), labels) < 0.01
    assert error_of(probabilities(logits + 1), labels) > 0.1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=60))
def test_bins_ascend_hold_equal_predictions_together_and_are_about_equally_full(values) -> None:
    predicted = np.array(values) / 12
    where = bins_of(predicted)
    order = np.argsort(predicted, kind="stable")
    assert (np.diff(where[order]) >= 0).all()
    assert all(len(set(where[predicted == one])) == 1 for one in predicted)
    if len(set(values)) == len(values):
        assert np.bincount(where, minlength=BINS).max() <= -(-len(values) // BINS) + 1


def test_resampling_one_user_many_times_is_weighting_their_examples() -> None:
    predicted, labels, users = np.full(4, 0.5), np.array([True, True, False, False]), np.array([0, 0, 1, 1])
    weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    sample = calibration_sample(predicted, labels, users, weights)
    assert (sample.value, sample.resampled.tolist()) == (0.0, [0.0, 0.5])


def test_no_example_is_no_measurement() -> None:
    sample = calibration_sample(np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64), user_weights(0, 5, seed=1))
    assert sample.estimate().value is None
    assert reliability(np.zeros(0), np.zeros(0, bool)) == []
