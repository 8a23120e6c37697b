"""Both losses against numbers worked out by hand, and the promises that every loss keeps."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from pipelines.config import LossOptions
from pipelines.errors import ConfigError
from pipelines.losses.batch import Batch
from pipelines.losses.pointwise import pointwise
from pipelines.losses.registry import LOSSES, loss_named, weighted_losses
from pipelines.losses.softmax_mined import softmax_mined

EVERY_LOSS = pytest.mark.parametrize("name", sorted(LOSSES))
EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def batch(user, item, label, weight=None, users=None, items=None, scale=2.0, bias=0.5) -> Batch:
    rows = len(label)
    floats = [np.asarray(v, "float32") for v in (user, item, scale, bias, label, weight or [1.0] * rows)]
    keys = [np.asarray(v, "int64") for v in (users or range(rows), items or range(100, 100 + rows))]
    return Batch(*(ops.convert_to_tensor(v) for v in (*floats, *keys)))


def random_batch(rows=12, seed=0, label=None) -> Batch:
    draw = np.random.default_rng(seed)
    user, item = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in draw.normal(size=(2, rows, 4)))
    label = draw.integers(0, 2, rows) if label is None else label
    return batch(user, item, label, list(draw.uniform(0.5, 2, rows)), list(draw.integers(0, 4, rows)))


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
    assert value("softmax", rows, temperature=0.5) == pytest.approx(expected, abs=2e-6)


def test_softmax_counts_positive_rows_by_their_weights_alone() -> None:
    rows = batch([EAST, NORTH, NORTH], [EAST, NORTH, WEST], [1, 1, 0], weight=[3.0, 1.0, 50.0])
    first = math.log(math.exp(2) + math.exp(0) + math.exp(-2)) - 2
    second = math.log(math.exp(2) + 2 * math.exp(0)) - 2
    assert value("softmax", rows) == pytest.approx((3 * first + second) / 4, abs=2e-6)


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
    assert value("softmax", rows) == pytest.approx(math.log(math.exp(2) + math.exp(-2)) - 2, abs=2e-6)


def test_softmax_keeps_an_item_that_the_user_was_only_shown() -> None:
    shown = batch([EAST] * 2, [EAST, NORTH], [1, 0], users=[7, 7], items=[1, 2])
    assert value("softmax", shown) == pytest.approx(math.log(math.exp(2) + 1) - 2, abs=2e-6)


def test_softmax_draws_as_many_distinct_rows_as_it_is_told() -> None:
    # All cosines alike: the loss is the logarithm of how many logits there are.
    rows = batch([EAST] * 9, [EAST] * 9, [1] + [0] * 8)
    assert value("softmax", rows, num_negatives=5) == pytest.approx(math.log(6), abs=2e-6)
    assert value("softmax", rows, num_negatives=50) == pytest.approx(math.log(9), abs=2e-6)


def test_softmax_draws_other_rows_with_another_seed() -> None:
    rows = random_batch(40)
    assert value("softmax", rows, seed=1, num_negatives=3) == value("softmax", rows, seed=1, num_negatives=3)
    assert value("softmax", rows, seed=1, num_negatives=3) != value("softmax", rows, seed=2, num_negatives=3)


@EVERY_LOSS
@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("label", [0, 1])
def test_a_degenerate_batch_gives_finite_values_and_gradients(name, rows, label) -> None:
    import tensorflow as tf

    vectors = tf.Variable(np.tile(EAST, (rows, 1)).astype("float32"))
    with tf.GradientTape() as tape:
        same = batch([EAST] * rows, [EAST] * rows, [label] * rows, users=[1] * rows, items=[2] * rows)
        loss = LOSSES[name](
            Batch(vectors, vectors, *(getattr(same, f) for f in list(Batch.__annotations__)[2:])), LossOptions(), 3
        )
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, vectors).numpy()).all()


@EVERY_LOSS
def test_weights_of_zero_give_a_loss_of_zero(name) -> None:
    assert value(name, batch([EAST] * 3, [EAST, NORTH, WEST], [1, 1, 0], weight=[0.0] * 3)) == 0


def test_a_batch_without_a_positive_has_no_softmax_loss() -> None:
    assert value("softmax", random_batch(label=np.zeros(12))) == 0


@EVERY_LOSS
def test_doubling_every_weight_changes_nothing_and_one_weight_does(name) -> None:
    rows = random_batch(label=np.ones(12))
    doubled = Batch(**{**vars(rows), "weight": rows.weight * 2})
    one = Batch(**{**vars(rows), "weight": rows.weight + np.eye(12, dtype="float32")[0] * 5})
    assert value(name, doubled) == pytest.approx(value(name, rows), rel=1e-5)
    assert value(name, one) != pytest.approx(value(name, rows), rel=1e-5)


@EVERY_LOSS
def test_the_order_of_a_batch_does_not_matter(name) -> None:
    rows, order = random_batch(), np.random.default_rng(5).permutation(12)
    mixed = Batch(**{f: v if f in ("scale", "bias") else ops.take(v, order, axis=0) for f, v in vars(rows).items()})
    # With every other row as a negative, no draw is left to differ.
    assert value(name, mixed, num_negatives=11) == pytest.approx(value(name, rows, num_negatives=11), rel=1e-5)


@EVERY_LOSS
def test_gradients_are_those_of_finite_differences(name) -> None:
    import tensorflow as tf

    rows = random_batch(seed=2)
    start = np.asarray(rows.user, "float32")

    def loss(user):
        return LOSSES[name](Batch(**{**vars(rows), "user": user}), LossOptions(), 4)

    user = tf.Variable(start)
    with tf.GradientTape() as tape:
        result = loss(user)
    gradient = tape.gradient(result, user).numpy()
    direction = np.random.default_rng(3).normal(size=start.shape).astype("float32")
    step = 1e-2
    measured = (float(loss(start + step * direction)) - float(loss(start - step * direction))) / (2 * step)
    assert measured == pytest.approx(float((gradient * direction).sum()), rel=1e-2, abs=1e-4)


def test_an_unknown_loss_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean `softmax`"):
        loss_named("sofmax")


def test_every_loss_has_its_weight_in_the_configuration() -> None:
    assert set(LOSSES) <= set(LossOptions.model_fields)
    assert list(weighted_losses(LossOptions(softmax=0))) == ["pointwise"]
    with pytest.raises(ConfigError, match="at least one loss"):
        weighted_losses(LossOptions(pointwise=0, softmax=0))


def test_losses_run_inside_a_graph_with_a_seed_generator() -> None:
    import tensorflow as tf

    seeds, rows = keras.random.SeedGenerator(3), random_batch()
    step = tf.function(lambda: softmax_mined(rows, LossOptions(num_negatives=3), seeds))
    first, second = float(step()), float(step())
    assert np.isfinite([first, second]).all()
    assert first != second
