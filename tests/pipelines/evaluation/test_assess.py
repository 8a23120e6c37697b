import numpy as np
import pytest

from pipelines.evaluation.assess import Bootstrap, auc_metrics, ranking_metrics

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
    assert measured["model"]["all"]["recall@2"].n == 2


def test_ndcg_is_taken_per_clock_and_then_per_user() -> None:
    measured = ranking_metrics(PLACES, USERS, CLOCKS, {"all": ALL}, (2,), BOOTSTRAP)
    # User 3: 0.919721 at its first clock (places 1 and 3), 0 at its second; user 8: 1/log2(3).
    assert value(measured, "model", "all", "ndcg@10") == pytest.approx((0.919721 / 2 + 0.630930) / 2, abs=1e-6)


def test_a_slice_restricts_what_is_relevant() -> None:
    part = np.array([True, False, False, False])
    measured = ranking_metrics(PLACES, USERS, CLOCKS, {"one": part, "none": ~ALL}, (2,), BOOTSTRAP)
    assert value(measured, "model", "one", "ndcg@10") == 1.0
    assert measured["model"]["none"]["recall@2"].to_dict() == {"value": None, "low": None, "high": None, "n": 0}


def test_a_difference_is_the_model_minus_the_other() -> None:
    measured = ranking_metrics(PLACES, USERS, CLOCKS, {"all": ALL}, (2, 5), BOOTSTRAP, against="model")
    assert list(measured) == ["random"]
    assert value(measured, "random", "all", "recall@2") == pytest.approx(2 / 3, abs=1e-6)
    assert value(measured, "random", "all", "recall@5") == pytest.approx(-1 / 6, abs=1e-6)


def test_auc_is_over_all_examples_of_a_slice() -> None:
    scores = {"model": np.array([0.9, 0.1, 0.5, 0.6])}
    labels = np.array([True, False, True, False])
    measured = auc_metrics(scores, labels, USERS, {"all": ALL, "first": USERS == 3}, BOOTSTRAP)
    assert value(measured, "model", "all", "auc") == 0.75
    assert value(measured, "model", "first", "auc") == 1.0
