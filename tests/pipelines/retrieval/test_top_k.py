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
