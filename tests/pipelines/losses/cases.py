"""Losses and their gradients over a few batches, on whatever backend there is."""

from dataclasses import replace

import keras
import numpy as np
from keras import ops

from pipelines.config import LossOptions
from pipelines.losses.batch import Batch, Catalogue
from pipelines.losses.frequencies import frequencies_of
from pipelines.losses.known import known_positives
from pipelines.losses.registry import LOSSES

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def batch(user, item, label, weight=None, users=None, items=None, scale=2.0, bias=0.5, target=None) -> Batch:
    """Rows from lists; keys are given, or all different."""
    rows = len(label)
    floats = [np.asarray(v, "float32") for v in (user, item, scale, bias, label, weight or [1.0] * rows)]
    keys = [np.asarray(v, "int64") for v in (users or range(rows), items or range(100, 100 + rows))]
    target = np.asarray(np.zeros(rows) if target is None else target, "float32")
    return Batch(*(ops.convert_to_tensor(v) for v in (*floats, *keys)), target=ops.convert_to_tensor(target))


def random_batch(rows=12, seed=0, label=None) -> Batch:
    """Rows of four users, with a target."""
    draw = np.random.default_rng(seed)
    user, item = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in draw.normal(size=(2, rows, 4)))
    label = draw.integers(0, 2, rows) if label is None else label
    users = list(draw.integers(0, 4, rows))
    return batch(user, item, label, list(draw.uniform(0.5, 2, rows)), users, target=draw.normal(size=rows))


def training_batch(rows=12, seed=0, m=5) -> Batch:
    """Rows with all that training adds: known positives, frequencies, a catalogue of `m` and factors."""
    draw = np.random.default_rng(seed)
    keys = draw.integers(0, 2**63 - 1, 30)
    users, items = keys[draw.integers(0, 4, rows)], keys[draw.integers(10, 20, rows)]
    catalogue = Catalogue(
        ops.convert_to_tensor(draw.normal(size=(m, 4)).astype("float32")),
        ops.convert_to_tensor(keys[draw.integers(10, 24, m)]),
        ops.convert_to_tensor(np.array([0] * (m - 1) + [50], "int32")),
    )
    return replace(
        random_batch(rows, seed),
        user_key=ops.convert_to_tensor(users),
        item_key=ops.convert_to_tensor(items),
        time=ops.convert_to_tensor(draw.integers(0, 100, rows).astype("int32")),
        catalogue=catalogue,
        known=known_positives(keys[draw.integers(0, 4, 9)], keys[draw.integers(10, 24, 9)]),
        frequencies=frequencies_of([(items, 6), (keys[10:24], m)]),
        user_factor=ops.convert_to_tensor(draw.normal(size=(rows, 3)).astype("float32")),
        item_factor=ops.convert_to_tensor(draw.normal(size=(rows, 3)).astype("float32")),
    )


def gradient(loss, at) -> np.ndarray:
    """Of a scalar function, or of each of a vector's elements, on the backend there is."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.jit(jax.jacrev(loss))(ops.convert_to_tensor(at)))
    import tensorflow as tf

    variable = tf.Variable(at)
    with tf.GradientTape(persistent=True) as tape:
        result = loss(variable)
        parts = tf.unstack(result) if len(result.shape) else [result]
    slopes = [np.asarray(tape.gradient(part, variable, unconnected_gradients="zero")) for part in parts]
    return np.stack(slopes) if len(result.shape) else slopes[0]


def every_case() -> dict[str, list[list[float]]]:
    """Case -> for each loss its gradient and value. A window of half the batch leaves nothing to draw."""
    window = LossOptions(num_negatives=6, margin=0.1)
    whole = LossOptions(in_batch="all", pairs="batch", temperature=0.5)
    cases = {
        "a window": (random_batch(), window),
        "training, a window": (training_batch(), window),
        "training, all": (training_batch(), whole),
    }
    found = {}
    for case, (rows, options) in cases.items():

        def of_users(user, rows=rows, options=options):
            return ops.stack([loss(replace(rows, user=user), options, 1) for loss in LOSSES.values()])

        def twice(user, of_users=of_users):
            # Values ride along as the slope of a last column: one compilation gives both.
            return of_users(user[:, :-1]) * user[0, -1]

        at = ops.convert_to_numpy(rows.user)
        slopes = gradient(twice, np.concatenate([at, np.ones_like(at[:, :1])], axis=1))
        found[case] = slopes.reshape(len(LOSSES), -1).tolist()
    return found
