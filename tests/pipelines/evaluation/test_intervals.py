import numpy as np

from pipelines.evaluation.intervals import auc_sample, mean_samples, user_auc_samples, user_weights


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
        estimate = mean_samples(generator.exponential(1.0, (80, 1)), weights)[0].estimate()
        covered += estimate.low <= 1.0 <= estimate.high
    assert 0.89 <= covered / 300 <= 0.98


def test_nobody_measured_is_nothing_said() -> None:
    samples = mean_samples(np.zeros((0, 2)), user_weights(0, 10, seed=1))
    assert [s.estimate().to_dict() for s in samples] == [{"value": None, "low": None, "high": None, "n": 0}] * 2


def test_a_paired_difference_is_sharper_than_the_two_it_compares() -> None:
    generator = np.random.default_rng(1)
    base = generator.random((100, 1))
    better = base + 0.01
    weights = user_weights(100, 200, seed=1)
    samples = mean_samples(np.concatenate([better, base], axis=1), weights)
    one, other, difference = (s.estimate() for s in (*samples, samples[0] - samples[1]))
    assert one.low < other.high  # they overlap…
    assert difference.low > 0.0099  # …and yet the first is better for every user


def test_examples_of_one_user_stand_or_fall_together() -> None:
    generator = np.random.default_rng(2)
    taste = generator.normal(size=20)
    users = np.repeat(np.arange(20), 30)
    labels = np.tile([True, False, False], 200)
    scores = labels * 0.5 + taste[users] + generator.normal(size=600)
    clustered = auc_sample(scores, labels, users, user_weights(20, 200, seed=1)).estimate()
    assert clustered.low < clustered.value < clustered.high
    assert clustered.n == 20


def test_a_handful_of_users_has_a_value_and_no_interval() -> None:
    few = mean_samples(np.full((4, 1), 0.3), user_weights(4, 50, seed=1))[0].estimate()
    assert few.to_dict() == {"value": 0.3, "low": None, "high": None, "n": 4}
    # Six users, one of them with all the positives: a third of the resamples leave that one out.
    labels = np.array([True, False, False, False, False, False])
    sample = auc_sample(np.arange(6.0)[::-1], labels, np.arange(6), user_weights(6, 200, seed=1))
    estimate = sample.estimate()
    assert (estimate.value, estimate.low) == (1.0, None)


def test_auc_of_one_label_alone_is_unknown_but_its_users_are_counted() -> None:
    sample = auc_sample(np.array([1.0, 2.0]), np.array([True, True]), np.array([0, 1]), user_weights(2, 10, seed=1))
    assert sample.estimate().to_dict() == {"value": None, "low": None, "high": None, "n": 2}


def test_a_user_s_auc_counts_every_user_alike_or_by_their_examples() -> None:
    # User 0: two of two pairs right, of three examples; user 1: none right, of two; user 2 has one label alone.
    scores = np.array([0.9, 0.1, 0.2, 0.3, 0.8, 0.5])
    labels = np.array([True, False, False, True, False, True])
    users = np.array([0, 0, 0, 1, 1, 2])
    alike, by_size = user_auc_samples(scores, labels, users, 20, 1)
    assert (alike.value, alike.users) == (0.5, 2)
    assert by_size.value == 3 / 5


def test_what_tells_users_apart_raises_auc_and_no_user_s_own() -> None:
    labels = np.tile([True, False, False, False, True, True], 10)
    users = np.repeat(np.arange(20), 3)
    scores = (users % 2).astype(float)  # every other user says yes more often
    assert auc_sample(scores, labels, users, user_weights(20, 20, seed=1)).value > 0.6
    assert user_auc_samples(scores, labels, users, 20, 1)[0].value == 0.5
