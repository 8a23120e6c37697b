"""Classifiers learn, repeat themselves to the bit, and say what is wrong with their rows."""

import numpy as np
import pytest

from pipelines.config import ClassifierOptions
from pipelines.errors import ConfigError, InputError
from pipelines.storage import Workspace
from pipelines.training.distribution import Alone
from pipelines.training.images import LabelledImages, open_images
from pipelines.training.network import train_network
from tests.pipelines.training.image_records import CLASSES, publish_images, spots


def images(rows=64, seed=0) -> LabelledImages:
    ids, pixels, labels = spots(rows, seed)
    return LabelledImages(tuple(ids), pixels, labels)


def trained(train=None, validation=None, seed=3, on_epoch=None, **options):
    chosen = ClassifierOptions(**{"family": "linear", "epochs": 4, "batch_size": 16, **options})
    held = images(32, 1) if validation is None else validation
    return train_network(chosen, train or images(), held, CLASSES, seed=seed, on_epoch=on_epoch)


def same(left, right) -> bool:
    pairs = zip(left.model.get_weights(), right.model.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def check() -> None:
    """Equal seeds give equal weights, with all that draws and all that keeps a state. On any backend."""
    options = {"family": "two_layer", "hidden": 6, "dropout": 0.1, "augment": {"crop": 1, "mixup": 0.2}, "ema": 0.5}
    options |= {"optimizer": {"name": "sgd", "weight_decay": 0.01}, "loss": {"l2": 0.001}}
    options |= {"schedule": {"name": "one_cycle", "learning_rate": 0.1}, "epochs": 3}
    first, again = trained(**options), trained(**options)
    assert same(first, again)
    assert first.history.to_json() == again.history.to_json()
    assert first.history.best.metrics["validation_accuracy"] > 0.9


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    check()
    assert not same(trained(family="two_layer"), trained(family="two_layer", seed=4))


def test_the_best_epoch_on_validation_is_kept_and_of_equals_the_one_with_the_lower_loss() -> None:
    found = trained(epochs=6).history
    ranks = [(e.metrics["validation_accuracy"], -e.metrics["validation_loss"]) for e in found.epochs]
    assert found.best_epoch == 1 + max(range(6), key=lambda place: ranks[place])


def test_training_stops_when_it_is_told_to_and_when_its_minutes_are_over() -> None:
    assert len(trained(on_epoch=lambda epoch: epoch.number == 2).history.epochs) == 2
    assert len(trained(minutes=1e-6).history.epochs) == 1


def test_no_validation_rows_keep_the_last_epoch() -> None:
    found = trained(validation=images(0)).history
    assert found.best_epoch == 4 and set(found.best.metrics) == {"loss", "accuracy"}


def test_weights_that_are_averaged_are_those_that_are_measured_and_kept_and_training_goes_on_from_the_others() -> None:
    plain = trained(validation=images(0), optimizer={"name": "sgd"})
    kept = trained(validation=images(0), optimizer={"name": "sgd"}, ema=0.9)
    assert not same(plain, kept)
    # What is told of the steps is of the weights that moved.
    assert plain.history.to_json() == kept.history.to_json()


def test_a_loss_that_is_not_finite_names_images() -> None:
    with pytest.raises(InputError, match=r"must stay finite.*learning_rate.*: 0{16}[0-9a-f]{16}, .*\(5 of 16\)"):
        trained(schedule={"learning_rate": 1e38}, loss={"l2": 1.0})


def test_nothing_to_train_on_and_labels_of_no_class_are_told() -> None:
    with pytest.raises(InputError, match="must have training rows"):
        trained(train=images(0))
    whole = images()
    with pytest.raises(InputError, match=r"a label must be from 0 to 1"):
        trained(train=LabelledImages(whole.ids, whole.images, whole.labels + 1))


def test_a_batch_that_is_cut_to_rows_that_cannot_be_shared_is_told_with_a_way_out() -> None:
    class Two(Alone):
        parts = 2

    options = ClassifierOptions(family="linear", batch_size=102)
    with pytest.raises(ConfigError, match=r"got 102, which is cut to the 101 training rows .*; set it to 100$"):
        train_network(options, images(101), None, CLASSES, seed=1, devices=Two())


def test_labels_of_streamed_images_are_looked_at_too(tmp_path) -> None:
    ids, pixels, labels = spots(32)
    workspace = Workspace.open(str(tmp_path / "out"))
    records = publish_images(workspace, {"train": (ids, pixels, labels + 1)}, classes=("a", "b", "c"))
    with pytest.raises(InputError, match=r"a label must be from 0 to 1, .* has 2 \(8 of 16 rows"):
        trained(train=open_images(records, "train", memory_bytes=0))


def test_a_crop_that_can_push_all_of_an_image_out_of_sight_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"augment.crop must be less than the images. shorter side, 4 pixels, got 4; set"
    ):
        trained(augment={"crop": 4})


def test_images_of_one_pixel_are_classified_too() -> None:
    labels = np.arange(32) % 2
    one = LabelledImages(images(32).ids, (labels * 200).astype(np.uint8).reshape(-1, 1, 1, 1), labels)
    learned = trained(one, one, epochs=8, schedule={"learning_rate": 0.1}).history.best
    assert learned.metrics["validation_accuracy"] == 1.0
