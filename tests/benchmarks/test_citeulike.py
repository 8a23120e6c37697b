"""The CiteULike reproductions: pairs are kept out of their own inputs, folds come of training alone, ties are fair."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.preprocessing import normalize

from benchmarks._citeulike import Split, fold, measure, pair_matrix, seeded_split
from benchmarks._citeulike_baselines import ridge
from benchmarks._citeulike_factors import als_factors, held_out, least_squares
from benchmarks._citeulike_towers import CONTENT_LENGTH, embed, sides_of, specs_of, start_from_ridge
from pipelines.config import FactorOptions, ModelOptions
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.retrieval.factors import solved

DRAW = np.random.default_rng(5)
OPTIONS = FactorOptions(rank=3, alpha=10.0, regularisation=0.1)
PAIRS = sparse.csr_matrix(DRAW.random((30, 40)) < 0.2).astype(float)


def test_least_squares_are_those_that_the_product_solves_user_by_user() -> None:
    vectors = DRAW.normal(size=(40, 3))
    found = least_squares(PAIRS, vectors.astype("float32"), OPTIONS)
    liked = np.argwhere(PAIRS.toarray() > 0)
    expected = solved(vectors.T @ vectors, vectors, liked, 30, OPTIONS.alpha, OPTIONS.regularisation)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_factors_held_out_know_nothing_of_pairs_that_only_chance_made() -> None:
    vectors, items = als_factors(PAIRS, OPTIONS.model_copy(update={"rank": 6}), seed=0)
    pairs = PAIRS.tocoo()
    others = np.argwhere(PAIRS.toarray() == 0)
    chance = (vectors[others[:, 0]] * items[others[:, 1]]).sum(axis=1)

    def share_above(scores):
        return np.nanmean(scores[:, None] > chance[None, :])

    without = held_out(PAIRS, items, OPTIONS, seed=0)
    assert share_above((vectors[pairs.row] * items[pairs.col]).sum(axis=1)) > 0.9
    assert share_above((without.user * without.item).sum(axis=1)) < 0.6


def test_towers_start_at_the_scores_of_factors_and_content_and_new_items_at_their_ridge_map() -> None:
    known = PAIRS.toarray() * (np.arange(40) < 39)
    train = sparse.csr_matrix(known)
    content = normalize(DRAW.normal(size=(40, 5)).astype("float32"))
    users, items = DRAW.normal(size=(30, 3)).astype("float32"), DRAW.normal(size=(40, 3)).astype("float32")
    items[39] = 0
    sides = sides_of(Split("cold", train, train, np.array([39])), content, users, items)
    options = ModelOptions(
        content_units=(), preference_units=(), tower_units=(4, 8), linear_path=True, foretell=True, similarity="dot"
    )
    model = build_dropoutnet(specs_of(sides), options, seed=1)
    start_from_ridge(model, sides)
    vectors = embed(model, sides)
    factors = sides.item.copy()
    factors[39] = np.append(content[39], 1) @ ridge(content[:39], sides.item[:39])
    expected = sides.user @ factors.T + CONTENT_LENGTH**2 * normalize(known @ content) @ content.T
    np.testing.assert_allclose(vectors[0] @ vectors[1].T, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["warm", "cold"])
def test_a_fold_is_cut_from_the_training_part_alone(name) -> None:
    split = seeded_split(PAIRS, name, seed=1)
    inner = fold(split, seed=0)
    assert (inner.train + inner.test != split.train).nnz == 0
    assert inner.test.nnz > 0
    if name == "cold":
        assert not set(inner.candidates) & set(split.candidates)
        assert inner.train[:, inner.candidates].nnz == 0


def test_a_warm_split_hides_a_fifth_of_each_items_pairs_rounded_down_as_the_published_one_does() -> None:
    split = seeded_split(PAIRS, "warm", seed=1)
    counts = PAIRS.getnnz(axis=0)
    assert counts.min() < 5 < 10 < counts.max() + 1
    np.testing.assert_array_equal(split.test.getnnz(axis=0), counts // 5)


def test_another_seed_hides_other_pairs() -> None:
    first, second = (seeded_split(PAIRS, "warm", seed).test for seed in (1, 2))
    assert (first != second).nnz > 0


def test_recall_is_of_the_candidates_without_the_users_training_items() -> None:
    # User 0 scores items 0 > 1 > 2 …; 0 is a training item, so the two test items take places 1 and 101 of 120.
    train, test = pair_matrix([0], [0], (2, 121)), pair_matrix([0, 0], [1, 101], (2, 121))
    split = Split("warm", train, test, np.arange(121))
    found = measure(lambda start, stop: -np.tile(np.arange(121.0), (stop - start, 1)), split, seed=0)
    assert found["recall@100"].tolist() == [0.5]
    assert found["ndcg@20"].tolist() == pytest.approx([1 / (1 + 1 / np.log2(3))])


def test_equal_scores_come_in_an_order_drawn_by_the_seed() -> None:
    test = pair_matrix(np.arange(1000), np.zeros(1000, int), (1000, 200))
    split = Split("cold", pair_matrix([], [], (1000, 200)), test, np.arange(200))
    hits = [
        measure(lambda start, stop: np.zeros((stop - start, 200)), split, seed)["recall@100"][0] for seed in range(40)
    ]
    assert 0.2 < np.mean(hits) < 0.8
