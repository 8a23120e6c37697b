"""Click probabilities of scores: as often right as they say, in the order of the scores, and none out of nothing."""

import numpy as np
import pytest

from pipelines.training.calibrate import fit_platt


def drawn(slope, intercept, rows=20_000, far=0.0):
    draw = np.random.default_rng(0)
    scores = draw.normal(size=rows) * 3 + far
    chance = 1 / (1 + np.exp(-(slope * scores + intercept)))
    return scores, (draw.random(rows) < chance).astype("float64"), np.ones(rows)


@pytest.mark.parametrize(
    ("slope", "intercept", "far"), [(1.0, 0.0, 0.0), (0.3, -2.0, 0.0), (2.0, 1.0, -2.0), (0.5, -50, 100.0)]
)
def test_slope_and_intercept_are_found_wherever_scores_lie(slope, intercept, far) -> None:
    scores, labels, weights = drawn(slope, intercept, far=far)
    found = fit_platt(scores, labels, weights)
    assert found.slope == pytest.approx(slope, rel=0.1)
    chance = 1 / (1 + np.exp(-(found.slope * scores + found.intercept)))
    assert chance.mean() == pytest.approx(labels.mean(), abs=1e-3)
    upper = chance > np.median(chance)
    assert chance[upper].mean() == pytest.approx(labels[upper].mean(), abs=0.02)


def test_a_weight_of_two_is_the_row_twice() -> None:
    scores, labels, weights = drawn(0.5, -1.0, rows=300)
    twice = fit_platt(*(np.concatenate([values, values]) for values in (scores, labels, weights)))
    heavy = fit_platt(scores, labels, weights * 2)
    assert (heavy.slope, heavy.intercept) == pytest.approx((twice.slope, twice.intercept), rel=1e-6)


def test_scores_that_tell_everything_stay_finite_and_those_that_tell_nothing_are_left_alone() -> None:
    labels = np.array([0.0, 0, 1, 1])
    found = fit_platt(np.array([-2.0, -1, 1, 2]), labels, np.ones(4))
    assert 0 < found.slope < 100
    assert fit_platt(np.array([2.0, 1, -1, -2]), labels, np.ones(4)) is None
    assert fit_platt(np.arange(4.0), np.ones(4), np.ones(4)) is None
    assert fit_platt(np.arange(4.0), np.zeros(4), np.ones(4)) is None
    assert fit_platt(np.ones(4), labels, np.ones(4)) is None
