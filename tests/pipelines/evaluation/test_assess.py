import numpy as np
import pytest

from pipelines.evaluation.assess import Bootstrap, differences, label_metrics, published, ranking_metrics

USERS = np.array([3, 3, 3, 8])
CLOCKS = np.array([100, 100, 200, 100])
PLACES = {"model": np.array([1, 3, 11, 2]), "random": np.array([5, 5, 5, 5])}
ALL = np.ones(4, bool)
BOOTSTRAP = Bootstrap(resamples=20, seed=1)


def value(measured, ranker, part, metric) -> float | None:
    return measured[ranker][part][metric].value


def test_recall_is_the_share_of_a_user_s_examples_and_then_the_mean_over_users() -> None:
    measured = ranking_metrics(PLACES, USERS, CLOCKS, {"all": ALL}, (2, 3), BOOTSTRAP)
    # User 3 has one of three within 2 and two of three within 3; user 8 has its one within both.
    assert value(measured, "model", "all", "recall@2") == pytest.approx((1 / 3 + 1) / 2, abs=1e-6)
    assert value(measured, "model", "all", "recall@3") == pytest.approx((2 / 3 + 1) / 2, abs=1e-6)
    assert measured["model"]["all"]["recall@2"].users == 2


def test_ndcg_is_taken_per_clock_and_then_per_user() -> None:
    measured = ranking_metrics(PLACES, USERS, CLOCKS, {"all": ALL}, (2,), BOOTSTRAP)
    # User 3: 0.919721 at its first clock (places 1 and 3), 0 at its second; user 8: 1/log2(3).
    assert value(measured, "model", "all", "ndcg@10") == pytest.approx((0.919721 / 2 + 0.630930) / 2, abs=1e-6)


def test_a_slice_restricts_what_is_relevant() -> None:
    part = np.array([True, False, False, False])
    measured = ranking_metrics(PLACES, USERS, CLOCKS, {"one": part, "none": ~ALL}, (2,), BOOTSTRAP)
    assert value(measured, "model", "one", "ndcg@10") == 1.0
    assert published(measured)["model"]["none"]["recall@2"] == {"value": None, "low": None, "high": None, "n": 0}


def test_a_difference_is_the_model_minus_the_other() -> None:
    measured = differences(ranking_metrics(PLACES, USERS, CLOCKS, {"all": ALL}, (2, 5), BOOTSTRAP), "model")
    assert list(measured) == ["random"]
    assert value(measured, "random", "all", "recall@2") == pytest.approx(2 / 3, abs=1e-6)
    assert value(measured, "random", "all", "recall@5") == pytest.approx(-1 / 6, abs=1e-6)


def test_a_hit_and_the_reciprocal_rank_are_of_the_best_place_of_a_clock() -> None:
    measured = ranking_metrics(PLACES, USERS, CLOCKS, {"all": ALL}, (1, 2), BOOTSTRAP)
    # User 3: places 1 and 3 at one clock, 11 at the next; user 8: place 2.
    assert value(measured, "model", "all", "mrr") == pytest.approx(((1 + 1 / 11) / 2 + 1 / 2) / 2)
    assert value(measured, "model", "all", "hit_rate@1") == 0.25
    assert value(measured, "model", "all", "hit_rate@2") == 0.75


def test_ndcg_is_reported_at_every_length_and_at_ten() -> None:
    row = ranking_metrics(PLACES, USERS, CLOCKS, {"all": ALL}, (2, 50), BOOTSTRAP)["model"]["all"]
    assert [metric for metric in row if metric.startswith("ndcg")] == ["ndcg@2", "ndcg@10", "ndcg@50"]
    # User 3's second clock has place 11 alone: within 50, not within 10.
    gained = row["ndcg@50"].value - row["ndcg@10"].value
    assert gained == pytest.approx(1 / np.log2(12) / 2 / 2)


def test_auc_is_over_all_examples_of_a_slice_and_calibration_of_rankers_with_probabilities() -> None:
    scores = {"model": np.array([0.9, 0.1, 0.5, 0.6]), "random": np.zeros(4)}
    labels = np.array([True, False, True, False])
    slices = {"all": ALL, "first": USERS == 3}
    measured = label_metrics(scores, {"model": np.full(4, 0.75)}, labels, USERS, slices, BOOTSTRAP)
    assert value(measured, "model", "all", "auc") == 0.75
    assert value(measured, "model", "first", "auc") == 1.0
    assert measured["model"]["all"]["user_auc"].users == 1  # user 8 has one example
    assert value(measured, "model", "all", "calibration_error") == 0.25
    assert published(measured)["random"]["all"]["calibration_error"]["value"] is None
