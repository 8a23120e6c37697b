"""Each loss against numbers worked out by hand, and the promises that every loss keeps."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from pipelines.config import LossOptions
from pipelines.errors import ConfigError
from pipelines.losses.batch import Batch
from pipelines.losses.pointwise import pointwise
from pipelines.losses.registry import LOSSES, loss_named, weighted_losses
from pipelines.losses.softmax_mined import softmax_mined
from tests.pipelines.losses.cases import EAST, NORTH, WEST, batch, gradient, random_batch

EVERY_LOSS = pytest.mark.parametrize("name", sorted(LOSSES))
OF_POSITIVES = pytest.mark.parametrize("name", ["softmax", "support_vector", "pairwise"])
ALL = {"in_batch": "all"}


def value(name: str, of: Batch, seed=1, **options) -> float:
    return float(LOSSES[name](of, LossOptions(**options), seed))


def test_pointwise_is_the_weighted_mean_of_the_cross_entropies() -> None:
    # Scores 2·1 + 0.5 = 2.5 for a positive and 2·(-1) + 0.5 = -1.5 for a negative.
    rows = batch([EAST, EAST], [EAST, WEST], [1, 0], weight=[3.0, 1.0])
    expected = (3 * math.log(1 + math.exp(-2.5)) + math.log(1 + math.exp(-1.5))) / 4
    assert float(pointwise(rows, LossOptions(), 0)) == pytest.approx(expected, abs=2e-6)


def test_softmax_sets_the_positive_against_the_other_rows_items() -> None:
    # Row 0 (positive): cosines 1 with its own item, 0 and -1 with the others'; logits are 2·cosine / 0.5.
    rows = batch([EAST, NORTH, NORTH], [EAST, NORTH, WEST], [1, 0, 0])
    expected = math.log(math.exp(4) + math.exp(0) + math.exp(-4)) - 4
    assert value("softmax", rows, temperature=0.5, **ALL) == pytest.approx(expected, abs=2e-6)


def test_softmax_counts_positive_rows_by_their_weights_alone() -> None:
    rows = batch([EAST, NORTH, NORTH], [EAST, NORTH, WEST], [1, 1, 0], weight=[3.0, 1.0, 50.0])
    first = math.log(math.exp(2) + math.exp(0) + math.exp(-2)) - 2
    second = math.log(math.exp(2) + 2 * math.exp(0)) - 2
    assert value("softmax", rows, **ALL) == pytest.approx((3 * first + second) / 4, abs=2e-6)


def test_softmax_masks_what_the_user_is_known_to_like() -> None:
    # User 7 likes item 1 (row 0) and item 2 (row 1); rows 2 and 3 are copies of item 1 and item 3 from others.
    rows = batch(
        [EAST, NORTH, NORTH, NORTH],
        [EAST, NORTH, EAST, WEST],
        [1, 1, 0, 0],
        weight=[1.0, 0.0, 1.0, 1.0],
        users=[7, 7, 8, 9],
        items=[2**62 + 1, 2**62 + 2, 2**62 + 1, 2**62 + 3],
    )
    # For row 0 only item 3 is left to be set against: cosine -1.
    assert value("softmax", rows, **ALL) == pytest.approx(math.log(math.exp(2) + math.exp(-2)) - 2, abs=2e-6)


def test_softmax_keeps_an_item_that_the_user_was_only_shown() -> None:
    shown = batch([EAST] * 2, [EAST, NORTH], [1, 0], users=[7, 7], items=[1, 2])
    assert value("softmax", shown) == pytest.approx(math.log(math.exp(2) + 1) - 2, abs=2e-6)


def test_softmax_draws_as_many_distinct_rows_as_it_is_told() -> None:
    # All cosines alike: the loss is the logarithm of how many logits there are.
    rows = batch([EAST] * 12, [EAST] * 12, [1] + [0] * 11)
    assert value("softmax", rows, num_negatives=5) == pytest.approx(math.log(6), abs=2e-6)
    assert value("softmax", rows, num_negatives=50) == pytest.approx(math.log(7), abs=2e-6)
    assert value("softmax", rows, **ALL) == pytest.approx(math.log(12), abs=2e-6)


def test_softmax_draws_other_rows_with_another_seed() -> None:
    rows = random_batch(40)
    assert value("softmax", rows, seed=1, num_negatives=3) == value("softmax", rows, seed=1, num_negatives=3)
    assert value("softmax", rows, seed=1, num_negatives=3) != value("softmax", rows, seed=2, num_negatives=3)


@EVERY_LOSS
@pytest.mark.parametrize("options", [{}, ALL | {"pairs": "batch", "margin": 0.3}], ids=["usual", "other"])
def test_a_degenerate_batch_gives_finite_values_and_gradients(name, options) -> None:
    chosen = LossOptions(**options)
    for rows, label, scale in ((1, 0, 2.0), (1, 1, 2.0), (5, 0, 2.0), (5, 1, 2.0), (5, 1, 1e8)):
        same = batch([EAST] * rows, [EAST] * rows, [label] * rows, users=[1] * rows, items=[2] * rows, scale=scale)

        def loss(vectors, same=same):
            return LOSSES[name](replace(same, user=vectors, item=vectors), chosen, 3)

        vectors = np.tile(EAST, (rows, 1)).astype("float32")
        assert np.isfinite(float(loss(ops.convert_to_tensor(vectors))))
        assert np.isfinite(gradient(loss, vectors)).all()


@EVERY_LOSS
def test_weights_of_zero_give_a_loss_of_zero(name) -> None:
    assert value(name, batch([EAST] * 3, [EAST, NORTH, WEST], [1, 1, 0], weight=[0.0] * 3)) == 0


@OF_POSITIVES
def test_a_batch_without_a_positive_has_no_loss(name) -> None:
    assert value(name, random_batch(label=np.zeros(12))) == 0


@EVERY_LOSS
def test_doubling_every_weight_changes_nothing_and_one_weight_does(name) -> None:
    rows = random_batch(24)
    doubled = replace(rows, weight=rows.weight * 2)
    one = replace(rows, weight=rows.weight * (1 + 5 * rows.label * np.arange(24, dtype="float32")))
    assert value(name, doubled) == pytest.approx(value(name, rows), rel=1e-5)
    assert value(name, one) != pytest.approx(value(name, rows), rel=1e-5)


@EVERY_LOSS
def test_the_order_of_a_batch_does_not_matter(name) -> None:
    rows, order = random_batch(), np.random.default_rng(5).permutation(12)
    moved = {f: ops.take(v, order, axis=0) for f, v in vars(rows).items() if v is not None and ops.ndim(v)}
    # With every other row as a negative, no draw is left to differ.
    assert value(name, replace(rows, **moved), **ALL) == pytest.approx(value(name, rows, **ALL), rel=1e-5)


@EVERY_LOSS
def test_a_higher_temperature_or_a_margin_changes_those_losses_that_have_one(name) -> None:
    rows = random_batch()
    assert (value(name, rows, temperature=3) != value(name, rows)) == (name not in ("pointwise", "reconstruction"))
    assert (value(name, rows, margin=0.5) > value(name, rows)) == (name in ("support_vector", "pairwise"))


@EVERY_LOSS
def test_gradients_are_those_of_finite_differences(name) -> None:
    rows = random_batch(24, seed=2)
    start = np.asarray(ops.convert_to_numpy(rows.user), "float32")

    def loss(user):
        # Hardness 1: elsewhere the loss jumps where a negative becomes a hard one.
        return LOSSES[name](replace(rows, user=user), LossOptions(hardness=1, margin=0.1), 4)

    direction = np.random.default_rng(3).normal(size=start.shape).astype("float32")
    step = 1e-2
    ahead, behind = (float(loss(ops.convert_to_tensor(start + way * step * direction))) for way in (1, -1))
    expected = float((gradient(loss, start) * direction).sum())
    assert (ahead - behind) / (2 * step) == pytest.approx(expected, rel=1e-2, abs=1e-4)
    assert abs(expected) > 1e-3


def test_support_vector_enlarges_what_comes_near_the_positive() -> None:
    # Cosines: the positive 0.8, others 0.6 and -1. Less a margin of 0.3 the positive is 0.5, so that 0.6 is hard.
    user, near = [1.0, 0.0], [0.6, 0.8]
    rows = batch([user] * 3, [[0.8, 0.6], near, WEST], [1, 0, 0])
    hard = 1.5 * 0.6 + 1.5 - 1
    expected = math.log(math.exp(2 * 0.5) + math.exp(2 * hard) + math.exp(-2)) - 2 * 0.5
    assert value("support_vector", rows, margin=0.3, hardness=1.5, **ALL) == pytest.approx(expected, abs=2e-6)
    # Without a margin nothing comes near.
    assert value("support_vector", rows, hardness=1.5, **ALL) == pytest.approx(value("softmax", rows, **ALL), abs=2e-6)


def test_support_vector_of_hardness_1_without_margin_is_the_softmax_loss() -> None:
    rows = random_batch(40)
    assert value("support_vector", rows, hardness=1) == pytest.approx(value("softmax", rows), rel=1e-6)
    assert value("support_vector", rows, hardness=1.5) > value("softmax", rows)


def test_pairwise_compares_the_rows_of_a_user() -> None:
    # User 7: a positive of cosine 1 and a negative of cosine 0. User 8: a positive of cosine -1.
    rows = batch([EAST] * 3, [EAST, WEST, NORTH], [1, 1, 0], users=[7, 8, 7], weight=[2.0, 1.0, 3.0])
    of_7, across = (math.log(1 + math.exp(-2 * difference)) for difference in (1, -1))
    assert value("pairwise", rows) == pytest.approx(of_7, abs=2e-6)
    assert value("pairwise", rows, pairs="batch") == pytest.approx((6 * of_7 + 3 * across) / 9, abs=2e-6)
    with_margin = math.log(1 + math.exp(-2 * (1 - 0.25) / 0.5))
    assert value("pairwise", rows, margin=0.25, temperature=0.5) == pytest.approx(with_margin, abs=2e-6)


def test_pairwise_compares_every_pair_of_a_user_with_33_rows_and_none_of_two_users() -> None:
    draw = np.random.default_rng(1)
    users = draw.permutation([1] * 33 + [2] * 33 + list(range(3, 40)))
    angle, label = draw.uniform(0, 3, 103), draw.integers(0, 2, 103)
    rows = batch([EAST] * 103, np.stack([np.cos(angle), np.sin(angle)], 1), label, users=list(users))
    pairs = [
        math.log(1 + math.exp(-2 * (math.cos(angle[i]) - math.cos(angle[j]))))
        for i in range(103)
        for j in range(103)
        if users[i] == users[j] and label[i] > label[j]
    ]
    assert value("pairwise", rows) == pytest.approx(np.mean(pairs), rel=1e-5)


def test_reconstruction_is_the_squared_error_of_the_score() -> None:
    # Scores 2·1 + 0.5 and 2·0 + 0.5; the third row has no reference score.
    rows = batch([EAST] * 3, [EAST, NORTH, WEST], [1, 0, 0], weight=[1.0, 3.0, 9.0], target=[2.0, 1.5, math.nan])
    assert value("reconstruction", rows) == pytest.approx((0.5**2 + 3 * 1.0**2) / 4, abs=2e-6)


def test_reconstruction_with_factors_asks_for_the_scores_of_other_items_too() -> None:
    draw = np.random.default_rng(0)
    factors = draw.normal(size=(2, 12, 3)).astype("float32")
    factors[0, 4], factors[1, 7] = math.nan, math.nan
    rows = replace(random_batch(), target=None, user_factor=factors[0], item_factor=factors[1])
    user, item, weight = (ops.convert_to_numpy(v) for v in (rows.user, rows.item, rows.weight))
    error = (2 * user @ item.T + 0.5 - factors[0] @ factors[1].T) ** 2
    error = np.concatenate([np.diag(error)[:, None], error], axis=1)
    there = np.isfinite(error)
    expected = (weight[:, None] * np.where(there, error, 0)).sum() / (weight[:, None] * there).sum()
    assert value("reconstruction", rows, **ALL) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(
        gradient(lambda u: LOSSES["reconstruction"](replace(rows, user=u), LossOptions(), 1), user)
    ).all()


def test_reconstruction_without_a_reference_is_refused() -> None:
    with pytest.raises(ConfigError, match="must have a reference model's scores or factors"):
        value("reconstruction", replace(random_batch(), target=None))


def test_an_unknown_loss_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean `softmax`"):
        loss_named("sofmax")


def test_every_loss_has_its_weight_in_the_configuration() -> None:
    assert set(LOSSES) <= set(LossOptions.model_fields)
    assert list(weighted_losses(LossOptions(softmax=0))) == ["pointwise"]
    with pytest.raises(ConfigError, match="at least one loss"):
        weighted_losses(LossOptions(pointwise=0, softmax=0))


def test_a_compiled_step_draws_other_negatives_each_time() -> None:
    seeds, rows = keras.random.SeedGenerator(3), random_batch()
    step = tf.function(lambda: softmax_mined(rows, LossOptions(num_negatives=3), seeds))
    first, second = float(step()), float(step())
    assert np.isfinite([first, second]).all()
    assert first != second
