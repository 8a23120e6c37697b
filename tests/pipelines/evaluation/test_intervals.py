import numpy as np

from pipelines.evaluation.intervals import auc_estimate, mean_estimates, user_weights


def test_every_resample_draws_as_many_users_as_there_are() -> None:
    weights = user_weights(50, 20, seed=1)
    assert weights.shape == (20, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert (weights == user_weights(50, 20, seed=1)).all()
    assert (weights != user_weights(50, 20, seed=2)).any()


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    weights = user_weights(80, 300, seed=3)
    covered = 0
    for _ in range(300):
        estimate = mean_estimates(generator.exponential(1.0, (80, 1)), weights)[0]
        covered += estimate.low <= 1.0 <= estimate.high
    assert 0.89 <= covered / 300 <= 0.98


def test_nobody_measured_is_nothing_said() -> None:
    estimates = mean_estimates(np.zeros((0, 2)), user_weights(0, 10, seed=1))
    assert [e.to_dict() for e in estimates] == [{"value": None, "low": None, "high": None, "n": 0}] * 2


def test_a_paired_difference_is_sharper_than_the_two_it_compares() -> None:
    generator = np.random.default_rng(1)
    base = generator.random((100, 1))
    better = base + 0.01
    weights = user_weights(100, 200, seed=1)
    one, other, difference = mean_estimates(np.concatenate([better, base, better - base], axis=1), weights)
    assert one.low < other.high  # they overlap…
    assert difference.low > 0.0099  # …and yet the first is better for every user


def test_examples_of_one_user_stand_or_fall_together() -> None:
    generator = np.random.default_rng(2)
    taste = generator.normal(size=20)
    users = np.repeat(np.arange(20), 30)
    labels = np.tile([True, False, False], 200)
    scores = labels * 0.5 + taste[users] + generator.normal(size=600)
    clustered = auc_estimate(scores, labels, users, user_weights(20, 200, seed=1))
    assert clustered.low < clustered.value < clustered.high
    assert clustered.n == 20


def test_a_handful_of_users_has_a_value_and_no_interval() -> None:
    few = mean_estimates(np.full((4, 1), 0.3), user_weights(4, 50, seed=1))[0]
    assert few.to_dict() == {"value": 0.3, "low": None, "high": None, "n": 4}
    # Six users, one of them with all the positives: a third of the resamples leave that one out.
    labels = np.array([True, False, False, False, False, False])
    estimate = auc_estimate(np.arange(6.0)[::-1], labels, np.arange(6), user_weights(6, 200, seed=1))
    assert (estimate.value, estimate.low) == (1.0, None)


def test_auc_of_one_label_alone_is_unknown_but_its_users_are_counted() -> None:
    estimate = auc_estimate(np.array([1.0, 2.0]), np.array([True, True]), np.array([0, 1]), user_weights(2, 10, seed=1))
    assert estimate.to_dict() == {"value": None, "low": None, "high": None, "n": 2}
