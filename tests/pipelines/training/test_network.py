"""Classifiers learn, repeat themselves to the bit, and say what is wrong with their rows."""

import numpy as np
import pytest

from pipelines.config import ClassifierOptions
from pipelines.errors import InputError
from pipelines.training.images import LabelledImages
from pipelines.training.network import train_network

CLASSES = ("dark", "light")


def images(rows=64, seed=0) -> LabelledImages:
    """Noise, and in one half a light spot."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    pixels = random.integers(0, 80, (rows, 4, 4, 1), np.uint8)
    pixels[labels == 1, :2, :2] += 120
    return LabelledImages(tuple(f"image{n}" for n in range(rows)), pixels, labels)


def trained(train=None, validation=None, seed=3, on_epoch=None, **options):
    chosen = ClassifierOptions(**{"family": "linear", "epochs": 4, "batch_size": 16, **options})
    held = images(32, 1) if validation is None else validation
    return train_network(chosen, train or images(), held, CLASSES, seed=seed, on_epoch=on_epoch)


def weights(model) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in model.weights]


def same(left, right) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights(left.model), weights(right.model), strict=True))


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    first, again, other = trained(family="two_layer"), trained(family="two_layer"), trained(family="two_layer", seed=4)
    assert same(first, again) and not same(first, other)
    assert first.history.to_json() == again.history.to_json()
    assert first.history.best.metrics["validation_accuracy"] > 0.9


def test_the_best_epoch_on_validation_is_kept_and_of_equals_the_one_with_the_lower_loss() -> None:
    found = trained(epochs=6).history
    ranks = [(e.metrics["validation_accuracy"], -e.metrics["validation_loss"]) for e in found.epochs]
    assert found.best_epoch == 1 + max(range(6), key=lambda place: ranks[place])


def test_training_stops_when_it_is_told_to() -> None:
    assert len(trained(on_epoch=lambda epoch: epoch.number == 2).history.epochs) == 2


def test_no_validation_rows_keep_the_last_epoch() -> None:
    found = trained(validation=images(0)).history
    assert found.best_epoch == 4 and set(found.best.metrics) == {"loss", "accuracy"}


def test_a_loss_that_is_not_finite_names_images(monkeypatch) -> None:
    with pytest.raises(InputError, match=r"must stay finite.*learning_rate.*image\d+, .*\(5 of 16\)"):
        trained(schedule={"learning_rate": 1e38}, loss={"l2": 1.0})


def test_nothing_to_train_on_is_told() -> None:
    with pytest.raises(InputError, match="must have training rows"):
        trained(train=images(0))
