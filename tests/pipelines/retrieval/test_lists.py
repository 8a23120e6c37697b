import numpy as np
import pytest

from pipelines.config import IndexOptions, RecommendOptions
from pipelines.retrieval.lists import best_lists


def unit(rows, seed) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(rows, 5)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def by(kind, seen=None, **options):
    index = IndexOptions(kind=kind, links=8, search=64, cells=10, **options)
    return best_lists(unit(30, 1), unit(200, 2), RecommendOptions(k=10, index=index), seen, seed=7)


def test_exact_search_leaves_no_index_behind() -> None:
    lists = by("exact")
    assert lists.indices.shape == (30, 10)
    assert lists.index is None and lists.found is None


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_an_index_is_told_with_what_it_found_of_the_exact_lists(kind) -> None:
    exact = by("exact").indices
    lists = by(kind, sample=12, probes=3)
    assert lists.index
    assert lists.found["kind"] == kind and lists.found["sampled"] == 12
    some = np.sort(np.random.default_rng(7).permutation(30)[:12])
    found = np.mean([len(set(lists.indices[u]) & set(exact[u])) / 10 for u in some])
    assert lists.found["recall"] == pytest.approx(found, abs=1e-4)
    assert found > 0.5


def test_an_index_that_reads_little_says_so_and_one_that_reads_all_finds_all() -> None:
    assert by("ivf", probes=10).found["recall"] == 1.0
    assert by("ivf", probes=1).found["recall"] < 0.9


def test_what_the_sampled_users_have_seen_is_left_out_of_the_exact_lists_too() -> None:
    def seen(start, stop):
        rows = np.repeat(np.arange(stop - start), 150)
        return rows, np.tile(np.arange(150), stop - start)

    lists = by("ivf", seen, probes=10, sample=30)
    assert (lists.indices >= 150).all()
    assert lists.found["recall"] == 1.0
