"""A small training that several devices or processes share, run as a program: prints its losses and weights.

    python -m tests.pipelines.training.shared_training devices 1 2 4
    python -m tests.pipelines.training.shared_training process PORT PROCESSES INDEX

It has all that could depend on how rows are shared: dropout of rows and fields, mined negatives and those of a
catalogue, known positives, tables, a cosine schedule, a short last batch, validation.
"""

import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

from pipelines.config import (
    AugmentOptions,
    CheckpointOptions,
    ClassifierOptions,
    LossOptions,
    ModelOptions,
    TrainingOptions,
)
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.training.augment import augment
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.class_step import make_step
from pipelines.training.distribution import ALONE, ROWS, Devices, JaxDevices, open_devices
from pipelines.training.facts import facts_of
from pipelines.training.fit import fit
from pipelines.training.objective import DRAWN
from pipelines.training.rendezvous import Place, gather, join, listen
from schemas.fitted import InputSpec

BATCH, DRAWS = 64, 8
MODEL = ModelOptions(
    embedding_dim=4, content_units=(), preference_units=(), tower_units=(8,), side_dropout=0.2, field_dropout=0.1
)
OPTIONS = TrainingOptions(
    batch_size=BATCH,
    epochs=2,
    learning_rate=0.01,
    learning_rate_schedule="cosine",
    losses=LossOptions(num_negatives=5, catalogue_negatives=DRAWS, log_q=True),
)
SPECS = (
    InputSpec(name="user_likes", side="user", part="content", kind="ids", length=2, table="kind", table_size=9),
    InputSpec(name="user_statistic", side="user", part="preference", kind="floats", length=2),
    InputSpec(name="item_kind", side="item", part="content", kind="ids", length=1, table="kind", table_size=9),
    InputSpec(name="item_number", side="item", part="preference", kind="floats", length=3),
)


class Rows:
    """Seeded rows in batches, of which each process has a part, as `Input` gives them. The last batch is short."""

    def __init__(self, rows: int, seed: int, devices: Devices) -> None:
        draw = np.random.default_rng(seed)
        self.rows, self.devices = rows, devices
        likes, kind = draw.integers(0, 9, (rows, 2)), draw.integers(1, 9, (rows, 1))
        self.inputs = {
            "user_likes": likes.astype("int32"),
            "user_statistic": np.where(draw.random((rows, 2)) < 0.2, np.nan, draw.normal(size=(rows, 2))).astype("f4"),
            "item_kind": kind.astype("int32"),
            "item_number": draw.normal(size=(rows, 3)).astype("f4"),
        }
        self.extras = {
            "label": (draw.random(rows) < np.where((likes == kind).any(axis=1), 0.8, 0.1)).astype("f4"),
            "weight": draw.uniform(0.5, 2, rows).astype("f4"),
            "user_key": draw.integers(0, 2**62, 40)[draw.integers(0, 40, rows)],
            "item_key": draw.integers(0, 2**62, 30)[draw.integers(0, 30, rows)],
            "minute": draw.integers(0, 100, rows).astype("int32"),
        }

    def epoch(self, number: int, start_step: int = 0):
        """Parts, with items drawn that are the same everywhere."""
        of, index = self.devices.processes, self.devices.index
        found = []
        for start in range(0, self.rows, BATCH):
            draw = np.random.default_rng([number, start])
            size = min(BATCH, self.rows - start)
            mine = slice(start + index * size // of, start + (index + 1) * size // of)
            inputs, extras = ({name: v[mine] for name, v in some.items()} for some in (self.inputs, self.extras))
            places = draw.integers(0, self.rows, DRAWS)
            inputs[DRAWN] = {name: self.inputs[name][places] for name in ("item_kind", "item_number")}
            drawn = {"item_key": self.extras["item_key"][places], "exists_from": self.extras["minute"][places]}
            shared = {ROWS: np.int64(size)} if of > 1 else {}
            found.append((inputs, {**extras, **shared, DRAWN: drawn}))
        signature = tf.nest.map_structure(lambda v: tf.TensorSpec((None, *v.shape[1:])[: v.ndim], v.dtype), found[0])
        left = found[start_step:]
        batches = tf.data.Dataset.from_generator(lambda: iter(left), output_signature=signature)
        return batches.apply(tf.data.experimental.assert_cardinality(len(left)))


def train(devices: Devices, folder: str = "", on_epoch=None) -> dict:
    """Losses, and weights as lists. `folder`: of checkpoints, after every step."""
    rows, held = Rows(3 * BATCH + 7, 1, devices), Rows(BATCH, 2, devices)
    facts = facts_of(rows.extras, OPTIONS, rows.extras["item_key"], held.extras["item_key"])
    model = build_dropoutnet(SPECS, MODEL, 3)
    told = CheckpointOptions(steps=1)
    saved = Checkpoints(folder, "key", told, lambda line: None, writes=devices.index == 0) if folder else None
    history = fit(model, rows, held, OPTIONS, 3, facts=facts, devices=devices, checkpoints=saved, on_epoch=on_epoch)
    weights = np.concatenate([np.asarray(weight).reshape(-1) for weight in model.get_weights()])
    weights = np.concatenate([weights, *(value.reshape(-1) for value in classify(devices))])
    return {"epochs": [epoch.metrics for epoch in history.epochs], "weights": weights.astype(float).tolist()}


def classify(devices: Devices) -> list[np.ndarray]:
    """What steps of a small network with batch norm tell, on mixed images, and its weights."""
    options, draw = ClassifierOptions(), np.random.default_rng(1)
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Conv2D(3, 3, kernel_initializer=keras.initializers.GlorotUniform(1)),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(2)),
        ]
    )
    mixing = augment(AugmentOptions(flip=True, mixup=0.2), 3)
    step = make_step(model, options, keras.optimizers.SGD(0.1, momentum=0.9), 0.1, mixing, devices)
    labels = draw.integers(0, 3, 16)
    images = (draw.integers(0, 80, (16, 4, 4, 1)) + 80 * labels[:, None, None, None]).astype("uint8")
    told = [np.asarray(step.train(images, labels, number)) for number in range(4)]
    step.settle()
    assert not model.layers[1].synchronized
    # Moving means of pixels are hundreds: beside the weights they are brought to their size.
    return [*told, *(np.asarray(weight) / max(1.0, float(np.abs(weight).max())) for weight in model.get_weights())]


def process(port: int, processes: int, index: int) -> dict:
    """One of several processes. THAW_TEST_DIE: the index of one that ends in the middle; _SAVED: for checkpoints."""
    place = Place("127.0.0.1", port, processes, index, wait_s=60)
    meeting = join(place, {}) if index else gather(place, listen(place), {})
    devices = open_devices(meeting)
    dies = os.environ.get("THAW_TEST_DIE") == str(index)
    # After an epoch: process 0 begins the next one, and waits for this process's part.
    try:
        found = train(devices, os.environ.get("THAW_TEST_SAVED", ""), lambda epoch: os._exit(9) if dies else None)
    except BaseException as error:
        meeting.fail(error)
        raise
    meeting.end()
    devices.close()
    # What comes after, this process does alone.
    assert float(keras.ops.sum(keras.ops.ones(3))) == 3
    return found


if __name__ == "__main__":
    way, *numbers = sys.argv[1:]
    values = [int(number) for number in numbers]
    if way == "devices":
        answers = [train(ALONE), *(train(JaxDevices(0, 1, each)) for each in values)]
    else:
        answers = [process(*values)]
    print(json.dumps(answers))
