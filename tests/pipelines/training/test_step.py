"""Steps and the optimizer: rows that nobody looked up stay, rules are the papers', and the loss falls."""

import keras
import numpy as np
from keras import ops

from pipelines.config import LossOptions, ModelOptions, TrainingOptions
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.training.computing import make_deterministic
from pipelines.training.objective import Objective
from pipelines.training.optimizer import Optimizer
from pipelines.training.step import make_steps
from schemas.fitted import InputSpec

SPECS = (
    InputSpec(name="user_likes", side="user", part="content", kind="ids", length=2, table="kind", table_size=9),
    InputSpec(name="item_kind", side="item", part="content", kind="ids", length=1, table="kind", table_size=9),
)
MODEL = ModelOptions(embedding_dim=4, content_units=(), preference_units=(), tower_units=(8,))


def trained(steps: int = 3) -> tuple[list[np.ndarray], np.ndarray, float, float]:
    """Table before; all weights after some steps; first and last loss."""
    make_deterministic(3)
    model = build_dropoutnet(SPECS, MODEL, 3)
    before = ops.convert_to_numpy(model.tables["kind"].rows)
    run = make_steps(Objective(model, LossOptions(softmax=0), seed=3), TrainingOptions(learning_rate=0.01))
    likes, kind = np.array([[1, 0], [2, 3], [2, 2]], "int32"), np.array([[3], [1], [0]], "int32")
    keys = np.arange(3)
    extras = {"label": np.array([1, 0, 1], "f4"), "weight": np.ones(3, "f4"), "user_key": keys, "item_key": keys}
    losses = [float(run.train({"user_likes": likes, "item_kind": kind}, extras)) for _ in range(steps)]
    run.settle()
    return [np.asarray(w) for w in model.get_weights()], before, losses[0], losses[-1]


def check() -> None:
    weights, before, first, last = trained()
    again, *_ = trained()
    assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))
    assert last < first
    table = next(w for w in weights if w.shape == before.shape)
    moved = (table != before).any(axis=1)
    assert moved.tolist() == [True, True, True, False, False, False, False, False]


def test_steps_repeat_themselves_to_the_bit_and_leave_rows_alone_that_no_example_has() -> None:
    check()


def test_a_table_moves_by_adagrad_with_every_look_up_a_gradient_of_its_own() -> None:
    table = keras.Variable(np.zeros((3, 2), "f4"))
    optimizer = Optimizer([], [table], TrainingOptions(table_learning_rate=0.5))
    gradient = np.array([[[1, 7], [3, 4]], [[1, 1], [0, 0]]], "f4")
    optimizer.apply([], [(table, np.array([[0, 2], [0, 0]], "int32"), ops.convert_to_tensor(gradient))])
    # Row 0: mean squares 25 and 1, sum 26; gradients add up to (2, 8). Row 2: mean square 12.5.
    expected = [[-0.5 * 2 / 26**0.5, -0.5 * 8 / 26**0.5], [0, 0], [-0.5 * 3 / 12.5**0.5, -0.5 * 4 / 12.5**0.5]]
    np.testing.assert_allclose(ops.convert_to_numpy(table), expected, rtol=1e-6)


def test_a_cosine_takes_both_rates_from_where_they_start_to_nothing() -> None:
    weight, table = keras.Variable(np.zeros(1, "f4")), keras.Variable(np.zeros((1, 1), "f4"))
    options = TrainingOptions(learning_rate=0.1, table_learning_rate=0.1, learning_rate_schedule="cosine")
    optimizer, moved = Optimizer([weight], [table], options, total_steps=4), []
    for _ in range(5):
        before = [float(weight[0]), float(table[0, 0])]
        one = ops.ones((1, 1))
        optimizer.apply([one[0]], [(table, np.zeros(1, "int32"), one)])
        moved.append([before[0] - float(weight[0]), before[1] - float(table[0, 0])])
    # Adam moves by its rate where all gradients are equal, Adagrad by its rate over the root of their number.
    share = np.array([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0])
    np.testing.assert_allclose(moved, np.stack([0.1 * share, 0.1 * share / np.arange(1, 6) ** 0.5], 1), atol=1e-5)


def test_dense_weights_move_by_adam_as_keras_has_it() -> None:
    ours, theirs = (keras.Variable(np.array([1.0, -2.0], "f4")) for _ in range(2))
    optimizer, adam = Optimizer([ours], [], TrainingOptions(learning_rate=0.1)), keras.optimizers.Adam(0.1)
    for gradient in ([1.0, -3.0], [0.5, 0.0], [-2.0, 1e-3]):
        optimizer.apply([ops.convert_to_tensor(np.array(gradient, "f4"))], [])
        adam.apply([ops.convert_to_tensor(np.array(gradient, "f4"))], [theirs])
    np.testing.assert_allclose(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), rtol=1e-5)
