"""The index beside exact top-K: what it may miss, and what it may not."""

import faiss
import numpy as np
import pytest

from pipelines.config import IndexOptions
from pipelines.retrieval.index import build_index, index_bytes, recall, search
from pipelines.retrieval.top_k import top_k

KINDS = [IndexOptions(kind="hnsw", links=8, construction=40, search=40), IndexOptions(kind="ivf", cells=8, probes=4)]


def unit(rows, seed) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def seen_of(pairs):
    def seen(start, stop):
        inside = sorted((row - start, item) for row, item in pairs if start <= row < stop)
        return tuple(np.array(inside, np.int64).reshape(-1, 2).T)

    return seen


@pytest.mark.parametrize("options", KINDS, ids=lambda options: options.kind)
def test_it_finds_nearly_all_that_exact_search_finds_and_never_what_was_seen(options) -> None:
    users, items = unit(40, 1), unit(300, 2)
    exact, _ = top_k(users, items, 10)
    seen = {(row, int(item)) for row in range(40) for item in exact[row, : row % 7]}
    exact, _ = top_k(users, items, 10, seen_of(seen))
    index = build_index(items, options, seed=1)
    found, scores = search(index, items, users, 10, seen_of(seen))
    assert recall(found, exact) > 0.8
    assert not {(row, int(item)) for row in range(40) for item in found[row]} & seen
    assert (np.diff(scores, axis=1) <= 0).all()
    assert scores == pytest.approx(np.take_along_axis(users @ items.T, found, axis=1), abs=1e-5)


@pytest.mark.parametrize("options", KINDS, ids=lambda options: options.kind)
def test_a_list_longer_than_the_catalogue_and_a_user_who_has_seen_nearly_all_are_complete(options) -> None:
    users, items = unit(3, 1), unit(30, 2)
    seen = seen_of({(1, item) for item in range(28)} | {(2, item) for item in range(30)})
    found, scores = search(build_index(items, options, seed=1), items, users, 100, seen)
    assert found.shape == (3, 30)
    assert sorted(found[0].tolist()) == list(range(30))
    assert sorted(found[1, :2].tolist()) == [28, 29] and (found[1, 2:] == -1).all()
    assert (found[2] == -1).all() and np.isneginf(scores[2]).all()


@pytest.mark.parametrize("options", KINDS, ids=lambda options: options.kind)
def test_the_same_items_make_the_same_bytes_and_they_can_be_read(options) -> None:
    items = unit(200, 2)
    first, second = (index_bytes(build_index(items, options, seed=3)) for _ in range(2))
    assert first == second
    again = faiss.deserialize_index(np.frombuffer(first, np.uint8))
    assert search(again, items, items[:5], 3)[0][:, 0].tolist() == [0, 1, 2, 3, 4]


def test_recall_is_the_share_of_the_exact_lists() -> None:
    assert recall(np.array([[1, 2], [3, -1]]), np.array([[2, 9], [3, -1]])) == pytest.approx(2 / 3)
    assert np.isnan(recall(np.array([[-1]]), np.array([[-1]])))
