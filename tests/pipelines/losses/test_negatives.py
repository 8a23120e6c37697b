"""What a positive is set against: windows of the batch, known positives, catalogue items, and the logQ correction."""

import math
from dataclasses import replace

import numpy as np
import pytest
from keras import ops

from pipelines.config import LossOptions
from pipelines.losses.batch import Catalogue
from pipelines.losses.frequencies import frequencies_of
from pipelines.losses.in_batch import in_batch
from pipelines.losses.keys import narrowed, pair_key
from pipelines.losses.known import known_positives, positives_of
from pipelines.losses.negatives import negatives
from pipelines.losses.softmax_mined import softmax_mined
from tests.pipelines.losses.cases import EAST, NORTH, WEST, batch, gradient, training_batch

BOTH = pytest.mark.parametrize("kind", ["mined", "all"])
BIG = 2**62


@pytest.mark.parametrize(
    ("rows", "asked", "met"), [(2, 1, 1), (3, 5, 1), (12, 5, 5), (12, 6, 6), (13, 50, 6), (64, 20, 20)]
)
def test_a_row_meets_as_many_different_rows_as_are_asked_for_and_never_itself(rows, asked, met) -> None:
    seen = set()
    for seed in range(9):
        found = ops.convert_to_numpy(in_batch(rows, LossOptions(num_negatives=asked), seed).of_items(ops.arange(rows)))
        assert found.shape == (rows, met)
        assert all(len({*row, place}) == met + 1 for place, row in enumerate(found.tolist()))
        # Each item is met as often as any other, but for those that the last block, a shorter one, meets or leaves out.
        left = rows % met
        off = np.abs(np.bincount(found.ravel(), minlength=rows) - met).max()
        assert off == (max(left, met - left) if left else 0)
        seen.add(found.tobytes())
    assert len(seen) > 1 or rows <= 2 * met + 1


@BOTH
def test_products_are_those_of_the_items_that_are_met(kind) -> None:
    user, item = np.random.default_rng(0).normal(size=(2, 11, 3)).astype("float32")
    met = in_batch(11, LossOptions(num_negatives=4, in_batch=kind), 1)
    found = np.broadcast_to(ops.convert_to_numpy(met.of_items(ops.arange(11))), (11, 4 if kind == "mined" else 11))
    expected = np.take_along_axis(user @ item.T, found, axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(met.dots(user, item)), expected, rtol=1e-5, atol=1e-6)


def test_a_pair_is_found_if_and_only_if_it_is_known() -> None:
    draw = np.random.default_rng(2)
    keys = draw.integers(0, 2**63 - 1, 40)
    liked_by, liked = keys[draw.integers(0, 9, 60)], keys[draw.integers(9, 40, 60)]
    pairs = set(zip(liked_by.tolist(), liked.tolist(), strict=True))
    # Every user and item that there is, one user of whom nothing is known, and an item that comes twice.
    users, items = keys[np.arange(31) % 12], np.append(keys[9:39], keys[9])
    expected = [[(int(u), int(i)) in pairs for i in items] for u in users]
    known = known_positives(liked_by, liked)
    assert 0 < np.sum(expected) < 31 * 31
    assert ops.convert_to_numpy(known.among(users[:, None], items[None])).tolist() == expected
    assert ops.convert_to_numpy(known.between(users, items)).tolist() == expected
    positive = draw.random(31) < 0.5
    own = positives_of(*(ops.convert_to_tensor(v) for v in (users, items, positive)))
    pairs = {(int(u), int(i)) for u, i, p in zip(users, items, positive, strict=True) if p}
    expected = [[(int(u), int(i)) in pairs for i in items] for u in users]
    assert ops.convert_to_numpy(own.among(users[:, None], items[None])).tolist() == expected
    assert ops.convert_to_numpy(own.between(users, items)).tolist() == expected


def test_the_lower_half_of_a_pair_follows_from_the_lower_halves_of_its_keys() -> None:
    # So JAX, which has but these, asks for the same pairs.
    user, item = np.random.default_rng(0).integers(0, 2**63 - 1, (2, 50))
    low = pair_key(*(ops.convert_to_tensor(narrowed(v)) for v in (user, item)))
    assert np.array_equal(ops.convert_to_numpy(low).astype("int32"), pair_key(user, item).astype("int32"))


@BOTH
def test_positives_of_the_training_rows_are_no_negatives(kind) -> None:
    # User 7's positive is item 1 (row 0); of the other rows' items they like 2 as well, but not in this batch.
    rows = batch([EAST] * 4, [EAST, NORTH, NORTH, WEST], [1, 0, 0, 0], users=[7, 8, 8, 9], items=[1, 2, 3, 4])
    options = LossOptions(num_negatives=2, in_batch=kind)
    known = replace(rows, known=known_positives(np.array([7, 7, 8]), np.array([1, 2, 3])))
    found = negatives(known, options, 1)
    assert ops.convert_to_numpy(found.masked).tolist()[0] == (
        [True, True, False, False] if kind == "all" else [False] * 2
    )
    unknown = negatives(rows, options, 1)
    assert not ops.convert_to_numpy(unknown.masked)[0, 1:].any()


@BOTH
def test_catalogue_items_join_unless_known_or_not_yet_there(kind) -> None:
    rows = batch([EAST] * 2, [EAST, EAST], [1, 0], users=[7, 8], items=[1, 1])
    drawn = [(NORTH, 5, 10), (NORTH, 5, 11), (NORTH, 1, 0), (NORTH, 6, 0), (WEST, 9, 0)]
    item, key, exists = (np.array(v) for v in zip(*drawn, strict=True))
    catalogue = Catalogue(item.astype("float32"), ops.convert_to_tensor(key), ops.convert_to_tensor(exists))
    known = known_positives(np.array([7]), np.array([6]))
    rows = replace(rows, catalogue=catalogue, known=known, time=ops.convert_to_tensor(np.array([10, 10])))
    # Left are item 5, there since this very moment, and item 9; not item 5 made later, the row's own and the known one.
    expected = math.log(math.exp(2) + math.exp(0) + math.exp(-2)) - 2
    assert float(softmax_mined(rows, LossOptions(in_batch=kind), 1)) == pytest.approx(expected, abs=2e-6)


def test_frequencies_are_those_of_the_whole_mixture() -> None:
    rows, catalogue = np.array([BIG + 1] * 6 + [BIG + 2] * 2), np.array([BIG + 1, BIG + 2, BIG + 3, BIG + 4])
    found = frequencies_of([(rows, 20), (catalogue, 8)])
    asked = ops.convert_to_tensor(np.array([[BIG + 1, BIG + 2], [BIG + 3, BIG + 4]]))
    expected = [[20 * 6 / 8 + 2, 20 * 2 / 8 + 2], [2, 2]]
    np.testing.assert_allclose(np.exp(ops.convert_to_numpy(found.log_q(asked))), expected, rtol=1e-6)
    alone = frequencies_of([(rows, 20), (catalogue, 0)])
    assert float(alone.log_q(asked)[0, 1]) == pytest.approx(math.log(5))


def test_corrected_the_loss_is_that_of_the_whole_catalogue_and_popular_items_are_not_pushed_down_too_far() -> None:
    # Items 0 … 4 with 60 to 1 percent of the rows. One positive of the rarest; the rest are there to be drawn from.
    draw = np.random.default_rng(4)
    drawn = np.repeat(np.arange(5), [240, 100, 40, 16, 4])
    items = np.append(4, drawn)
    vectors = draw.normal(size=(5, 3)).astype("float32")
    user = draw.normal(size=3).astype("float32")
    rows = batch(np.tile(user, (401, 1)), vectors[items], np.arange(401) == 0, users=[1] + [2] * 400, scale=1.0)
    rows = replace(rows, item_key=ops.convert_to_tensor(items))
    corrected = replace(rows, frequencies=frequencies_of([(drawn, 400)]))
    scores = vectors @ user
    expected = np.exp(scores - np.log(np.exp(scores).sum())) - np.eye(5)[4]

    def push(rows) -> np.ndarray:
        """Gradient of the loss with respect to each item's score."""
        slope = gradient(
            lambda item: softmax_mined(replace(rows, item=item), LossOptions(in_batch="all"), 0), vectors[items]
        )
        return np.array([(slope[items == i] @ user).sum() for i in range(5)]) / (user @ user)

    np.testing.assert_allclose(push(corrected), expected, atol=1e-5)
    assert push(rows)[0] > 1.5 * push(corrected)[0]


def test_a_batch_with_all_that_training_adds_has_a_finite_loss() -> None:
    for rows in (1, 2, 12):
        for kind in ("mined", "all"):
            assert math.isfinite(float(softmax_mined(training_batch(rows), LossOptions(in_batch=kind), 1)))
