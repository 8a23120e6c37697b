import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from pipelines.evaluation import item_knn as module
from pipelines.evaluation.item_knn import ItemKnn, similar_items
from pipelines.evaluation.rankers import dot
from pipelines.evaluation.strangers import ForStrangers
from pipelines.evaluation.timeline import History

USERS, ITEMS = pa.array(["u1", "u2", "u3"]), pa.array(["a", "b", "c", "d"])


def history(*events, delay=0) -> History:
    users, items, times = zip(*events, strict=True)
    table = pa.table({"user_id": users, "item_id": items, "event_time": times, "available_time": times})
    return History.of(table, USERS, ITEMS, delay)


def scores(ranker, user, clock, past=(0, 0, 0, 0)) -> list[float]:
    rows = pa.table({"user_id": [user], "as_of": [clock]})
    items = pa.table({"item_id": ITEMS, "past_positives": pa.array(past)})
    return dot(ranker.users(rows), ranker.items(items))[0].tolist()


EVENTS = [("u1", "a", 10), ("u1", "b", 11), ("u2", "a", 12), ("u2", "b", 13), ("u2", "c", 14), ("u3", "a", 15)]


def test_similarity_is_the_cosine_of_the_sets_of_users() -> None:
    # a: u1 u2 u3, b: u1 u2, c: u2. A user who likes a alone is nearest to b.
    ranker = ItemKnn(history(*EVENTS), fitted_at=100)
    assert scores(ranker, "u3", 100) == pytest.approx([0, 2 / np.sqrt(6), 1 / np.sqrt(3), 0])


def test_what_happened_after_the_fit_is_in_the_user_s_history_and_in_no_similarity() -> None:
    later = [*EVENTS, ("u3", "d", 150), ("u2", "d", 151), ("u3", "b", 160)]
    early, late = ItemKnn(history(*EVENTS), fitted_at=100), ItemKnn(history(*later), fitted_at=100)
    assert scores(late, "u1", 100) == scores(early, "u1", 100)
    assert scores(late, "u1", 200)[3] == 0  # d was liked by others too late to be like anything
    assert scores(late, "u3", 200)[2] > scores(late, "u3", 155)[2]  # b is known by 200


def test_an_event_that_arrives_after_the_fit_is_not_in_it() -> None:
    table = pa.table(
        {"user_id": ["u1"] * 2, "item_id": ["a", "b"], "event_time": [10] * 2, "available_time": [10, 900]}
    )
    ranker = ItemKnn(History.of(table, USERS, ITEMS, 0), fitted_at=100)
    assert scores(ranker, "u1", 1000) == [0, 0, 0, 0]


def test_a_stranger_is_shown_what_is_popular_and_an_unknown_item_ranks_with_nothing() -> None:
    ranker = ForStrangers(ItemKnn(history(*EVENTS), fitted_at=100))
    assert np.argsort(scores(ranker, "u1", 5, past=(1, 7, 3, 0)))[::-1].tolist() == [1, 2, 0, 3]
    items = pa.table({"item_id": ["zzz"], "past_positives": [9]})
    assert dot(ranker.users(pa.table({"user_id": ["u1"], "as_of": [100]})), ranker.items(items)).tolist() == [[0.0]]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 4), st.integers(1, 30), st.data())
def test_blocks_and_neighbours_equal_a_dense_computation(users, items, neighbours, block, data) -> None:
    cells = data.draw(st.lists(st.booleans(), min_size=users * items, max_size=users * items))
    liked = np.array(cells, float).reshape(users, items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_PAIRS", block)
        found = similar_items(sparse.csr_matrix(liked), neighbours).toarray()
    lengths = np.maximum(np.linalg.norm(liked, axis=0), 1e-9)
    cosines = liked.T @ liked / np.outer(lengths, lengths)
    np.fill_diagonal(cosines, 0)
    for row, expected in zip(found, cosines, strict=True):
        order = np.lexsort((np.arange(items), -np.round(expected, 12)))[:neighbours]
        assert sorted(np.flatnonzero(row)) == sorted(order[expected[order] > 0])
        assert row[order] == pytest.approx(expected[order])
