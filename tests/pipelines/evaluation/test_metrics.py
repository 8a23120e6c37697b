import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.evaluation.metrics import UNRANKED, auc, auc_resampled, best_places, group_means, ndcg, ranks, user_aucs

ANY = np.ones((1, 4), bool)


def place(scores, own, draw=0.0, eligible=None) -> int:
    scores = np.array([scores])
    allowed = np.ones(scores.shape, bool) if eligible is None else np.array([eligible])
    return int(ranks(scores, allowed, np.array([own]), np.array([draw]))[0])


def test_the_best_score_has_place_one_and_the_worst_the_last() -> None:
    assert [place([0.9, 0.1, 0.5, 0.3], own) for own in range(4)] == [1, 4, 2, 3]


def test_what_is_not_eligible_does_not_compete() -> None:
    assert place([0.9, 0.1, 0.5], 1, eligible=[False, True, True]) == 2


def test_an_item_that_is_no_candidate_has_no_place() -> None:
    assert place([0.9, 0.1], -1) == UNRANKED


def test_a_tie_takes_every_place_equally_often() -> None:
    draws = (np.arange(4000) + 0.5) / 4000
    scores = np.tile([2.0, 1.0, 1.0, 1.0, 1.0, 0.0], (4000, 1))
    places = ranks(scores, np.ones(scores.shape, bool), np.full(4000, 3), draws)
    assert np.bincount(places, minlength=7).tolist() == [0, 0, 1000, 1000, 1000, 1000, 0]


def test_rounding_does_not_break_a_tie() -> None:
    scores = np.array([[1.0, 1.0 + 1e-7, 1.0 - 1e-7]], np.float32)
    assert {int(ranks(scores, np.ones((1, 3), bool), np.array([0]), np.array([d]))[0]) for d in (0, 0.5, 0.9)} == {
        1,
        2,
        3,
    }


def test_ndcg_of_places_one_and_three_is_ninety_two_percent() -> None:
    # (1 + 1/2) / (1 + 1/log2(3)) = 1.5 / 1.63093
    present, values = ndcg(np.array([3, 1]), np.array([0, 0]), [10])
    assert present.tolist() == [0]
    assert values == pytest.approx(np.array([[0.919721]]), abs=1e-6)


def test_ndcg_is_zero_for_misses_and_one_for_a_perfect_list_longer_than_k() -> None:
    places = np.array([UNRANKED, 11, *range(1, 13)])
    queries = np.array([5, 6, *[7] * 12])
    assert ndcg(places, queries, [10])[1][:, 0] == pytest.approx([0.0, 0.0, 1.0])


def test_two_items_that_both_came_first_at_their_moment_make_a_perfect_list_not_more() -> None:
    assert ndcg(np.array([1, 1]), np.array([0, 0]), [10])[1][0] == pytest.approx([1.0])


def test_no_examples_give_no_queries() -> None:
    present, values = ndcg(np.zeros(0, np.int64), np.zeros(0, np.int64), [10])
    assert len(present) == len(values) == 0


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 15)), min_size=1, max_size=30, unique=True))
def test_ndcg_equals_the_textbook_sum(pairs) -> None:
    queries, places = np.array(pairs).T
    ks = (3, 10)
    present, values = ndcg(places, queries, ks)
    for query, row in zip(present, values, strict=True):
        mine = places[queries == query]
        for k, value in zip(ks, row, strict=True):
            gain = sum(1 / np.log2(1 + p) for p in mine if p <= k)
            ideal = sum(1 / np.log2(1 + p) for p in range(1, min(len(mine), k) + 1))
            assert value == pytest.approx(gain / ideal)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30))
def test_auc_counts_pairs_and_a_weight_of_two_is_a_copy(rows) -> None:
    scores, labels, weights = (np.array(c) for c in zip(*rows, strict=True))
    copies = np.repeat(np.arange(len(rows)), weights)
    s, y = scores[copies].astype(float), labels[copies]
    wins = [(a > b) + (a == b) / 2 for a in s[y] for b in s[~y]]
    expected = np.mean(wins) if wins else np.nan
    assert auc(s, y) == pytest.approx(expected, nan_ok=True)
    users = np.arange(len(rows))
    assert auc_resampled(scores, labels, users, weights[None].astype(float))[0] == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_a_user_s_own_auc_is_the_auc_of_their_examples_alone(rows) -> None:
    users, scores, labels = (np.array(c) for c in zip(*rows, strict=True))
    alone = {int(user): auc(scores[users == user].astype(float), labels[users == user]) for user in np.unique(users)}
    values, sizes = user_aucs(scores.astype(float), labels, users)
    both = [user for user, value in alone.items() if not np.isnan(value)]
    assert values == pytest.approx([alone[user] for user in both])
    assert sizes.tolist() == [(users == user).sum() for user in both]


def test_the_best_place_of_a_query_is_its_smallest_and_a_query_without_one_has_none() -> None:
    assert best_places(np.array([7, 3, 5]), np.array([0, 0, 2]), 3).tolist() == [3, UNRANKED, 5]


def test_means_are_taken_within_groups() -> None:
    assert group_means(np.array([[1.0], [3.0], [5.0]]), np.array([0, 0, 1]), 2).tolist() == [[2.0], [5.0]]
