"""Trainings that are killed, however often and wherever, and go on, come to the weights of one that never was."""

import os
import random
import signal
from functools import cache

import numpy as np
import pytest
import tensorflow as tf

from pipelines.config import CheckpointOptions, ClassifierOptions, LossOptions, ModelOptions, TrainingOptions
from pipelines.errors import StoppedError
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.training import fit as fit_module
from pipelines.training import network as network_module
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.fit import fit
from pipelines.training.images import LabelledImages
from pipelines.training.network import train_network
from tests.pipelines.training.image_records import CLASSES, spots
from tests.pipelines.training.test_fit import SPECS, Held

MODEL = ModelOptions(
    embedding_dim=4, content_units=(), preference_units=(4,), tower_units=(8, 4), preference_dropout=0.2,
    preference_dropout_end=0.8, side_dropout=0.1, field_dropout=0.1,
)  # fmt: skip
TOWERS = TrainingOptions(
    batch_size=64, epochs=3, learning_rate=0.01, learning_rate_schedule="cosine", losses=LossOptions(num_negatives=5)
)
CLASSIFIER = ClassifierOptions.model_validate(
    {
        "family": "two_layer", "hidden": 6, "dropout": 0.1, "ema": 0.5, "epochs": 3, "batch_size": 16,
        "augment": {"crop": 1, "mixup": 0.2}, "optimizer": {"name": "sgd", "weight_decay": 0.01},
        "loss": {"l2": 0.001}, "schedule": {"name": "one_cycle", "learning_rate": 0.1},
    }
)  # fmt: skip


class KilledError(Exception):
    """In place of SIGKILL."""


class Mortal(Checkpoints):
    """The process dies where it would ask for the `life`-th time whether to save."""

    def __init__(self, folder, every, life) -> None:
        super().__init__(str(folder), "k", CheckpointOptions(minutes=None, steps=every), lambda line: None)
        self.life = life

    def is_due(self) -> bool:
        self.life -= 1
        if not self.life:
            raise KilledError
        return super().is_due()


class Rows(Held):
    """Two batches, the last one short."""

    def epoch(self, number, start_step=0):
        return super().epoch(number).skip(start_step)


def towers(checkpoints=None):
    model = build_dropoutnet(SPECS, MODEL, 5)
    history = fit(model, Rows(100), Rows(60, seed=1), TOWERS, 5, checkpoints=checkpoints)
    return history.to_json(), model.get_weights()


def classifier(checkpoints=None):
    train, held = (LabelledImages(tuple(ids), pixels, labels) for ids, pixels, labels in (spots(30), spots(20, 1)))
    found = train_network(CLASSIFIER, train, held, CLASSES, seed=3, checkpoints=checkpoints)
    return found.history.to_json(), found.model.get_weights()


@cache
def undisturbed(train, eagerly):
    return train()


def check(train, folder, lives, every=1):
    """`train` dies after each of `lives`, and is then left in peace: it must end as one that never died."""
    for life in lives:
        with pytest.raises(KilledError):
            train(Mortal(folder, every, life))
    told, weights = train(Mortal(folder, every, 1_000))
    expected, whole = undisturbed(train, tf.config.functions_run_eagerly())
    assert told == expected
    assert all(np.array_equal(a, b) for a, b in zip(weights, whole, strict=True))
    return told


@pytest.fixture
def eagerly():
    """Steps are not compiled, which takes longer than they do."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("train", [towers, classifier])
def test_killed_at_every_step_is_the_same_as_never_killed(train, eagerly, tmp_path) -> None:
    # Two steps and the end of an epoch, three times, but for the last end: each life comes one further, and dies.
    told = check(train, tmp_path / "each", [1, *[2] * 7])
    assert len(told["epochs"]) == 3


@pytest.mark.parametrize("train", [towers, classifier])
def test_killed_at_random_between_checkpoints_is_the_same_as_never_killed(train, eagerly, tmp_path) -> None:
    draw = random.Random(train.__name__)
    check(train, tmp_path / "some", [draw.randint(1, 4) for _ in range(2)], every=3)


@pytest.mark.parametrize("train", [towers, classifier])
def test_asked_to_stop_in_the_last_validation_it_stops_and_has_nothing_left_to_do(
    train, eagerly, tmp_path, monkeypatch
) -> None:
    module = fit_module if train is towers else network_module
    evaluate, calls = module.evaluate, []

    def stopped(*given):
        calls.append(given)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*given)

    monkeypatch.setattr(module, "evaluate", stopped)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(StoppedError, match=r"SIGTERM .* which is saved") as asked:
            train(Checkpoints(str(tmp_path), "k", CheckpointOptions(minutes=None, steps=None), lambda line: None))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked.value.exit_code == 143
    check(train, tmp_path, [])
    assert len(calls) == 3


def test_a_compiled_training_goes_on_with_a_short_batch_as_it_would_have(tmp_path) -> None:
    check(towers, tmp_path / "compiled", [2])
