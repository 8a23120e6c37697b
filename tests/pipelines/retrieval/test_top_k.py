"""Exact top-K against a plain sort, with seen items left out."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import LabelOptions
from pipelines.retrieval import top_k as module
from pipelines.retrieval.seen import SeenItems, positive_rows
from pipelines.retrieval.top_k import top_k


def plain(users, items, k, left_out):
    """One user at a time, by a full stable sort."""
    lists = []
    for row, scores in enumerate(users @ items.T):
        order = [item for item in np.lexsort((np.arange(len(items)), -scores)) if (row, item) not in left_out]
        lists.append(([int(item) for item in order] + [-1] * k)[: min(k, len(items))])
    return lists


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.data())
def test_blocked_equals_a_plain_sort_also_with_ties_and_seen_items(n, m, k, data) -> None:
    # Small integers make ties common and products exact.
    values = st.lists(st.integers(-2, 2), min_size=2, max_size=2)
    users = np.array(data.draw(st.lists(values, min_size=n, max_size=n)), np.float32)
    items = np.array(data.draw(st.lists(values, min_size=m, max_size=m)), np.float32)
    pairs = data.draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, m - 1))))

    def seen(start, stop):
        inside = [(row - start, item) for row, item in sorted(pairs) if start <= row < stop]
        return tuple(np.array(inside, np.int64).reshape(-1, 2).T)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_SCORES", 2 * m)
        indices, _ = top_k(users, items, k, seen)
    assert indices.tolist() == plain(users, items, k, pairs)


def test_a_user_who_has_seen_everything_gets_an_empty_list() -> None:
    indices, scores = top_k(
        np.ones((1, 2), np.float32),
        np.ones((2, 2), np.float32),
        2,
        lambda start, stop: (np.array([0, 0]), np.array([0, 1])),
    )
    assert indices.tolist() == [[-1, -1]]
    assert np.isneginf(scores).all()


def test_seen_are_the_positives_of_the_label_rule_and_unknown_ids_are_no_error() -> None:
    log = pa.table(
        {
            "user_id": ["u1", "u1", "u2", "stranger"],
            "item_id": ["a", "b", "b", "a"],
            "action": ["rating"] * 4,
            "weight": [5.0, 3.0, 4.0, 5.0],
        }
    )
    liked = positive_rows(log, LabelOptions(rule="threshold", positive_actions=("rating",), threshold=4))
    seen = SeenItems(liked, pa.array(["u1", "u2"]), pa.array(["a", "b"]))
    assert [pair.tolist() for pair in seen(0, 2)] == [[0, 1], [0, 1]]
    assert [pair.tolist() for pair in seen(1, 2)] == [[0], [1]]


def test_groups_of_columns_and_threads_change_nothing() -> None:
    generator = np.random.default_rng(3)
    # Whole numbers make ties common and products exact; 67 items are 8 groups and a rest.
    users, items = (generator.integers(-2, 3, (n, 3)).astype(np.float32) for n in (50, 67))
    pairs = {
        (int(u), int(i)) for u, i in zip(generator.integers(0, 50, 900), generator.integers(0, 67, 900), strict=True)
    }
    pairs |= {(7, item) for item in range(66)}

    def seen(start, stop):
        inside = sorted((row - start, item) for row, item in pairs if start <= row < stop)
        return tuple(np.array(inside, np.int64).reshape(-1, 2).T)

    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_SCORES", 3 * 67)
        by_threads = [top_k(users, items, 4, seen, told.append, threads=threads)[0] for threads in (1, 4)]
    assert by_threads[0].tolist() == by_threads[1].tolist() == plain(users, items, 4, pairs)
    assert by_threads[0][7].tolist() == [66, -1, -1, -1]
    assert told[16] == told[-1] == 50  # blocks of 3


def test_a_list_longer_than_the_catalogue_is_the_catalogue() -> None:
    indices, scores = top_k(np.ones((2, 1), np.float32), np.array([[1.0], [3.0], [2.0]], np.float32), 100)
    assert indices.tolist() == [[1, 2, 0]] * 2
    assert scores.tolist() == [[3.0, 2.0, 1.0]] * 2


def test_nobody_and_nothing_make_empty_lists() -> None:
    assert top_k(np.zeros((0, 2), np.float32), np.ones((3, 2), np.float32), 2)[0].shape == (0, 2)
    assert top_k(np.ones((2, 2), np.float32), np.zeros((0, 2), np.float32), 5)[0].shape == (2, 0)


def test_what_fails_in_a_thread_fails_the_call() -> None:
    def broken(start, stop):
        raise RuntimeError("no such user")

    with pytest.raises(RuntimeError, match="no such user"):
        top_k(np.ones((2, 1), np.float32), np.ones((2, 1), np.float32), 1, broken)


def test_scores_of_either_sign_and_both_zeros_are_in_order() -> None:
    values = np.array([[-0.0, 0.0, -1e-38, 1e-38, -3.5, 3.5, np.finfo(np.float32).max, -np.inf, 1.0, 1.0]], np.float32)
    rows, columns, scores = module._in_order(values, np.arange(10)[::-1].copy())
    assert columns.tolist() == [6, 5, 8, 9, 3, 0, 1, 2, 4, 7]
    assert rows.tolist() == [0] * 10 and scores.tolist() == values[0, columns].tolist()
