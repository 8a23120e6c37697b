"""Augmentation: what happens to images and labels, the same by seed, on TensorFlow and JAX."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from pipelines.config import AugmentOptions
from pipelines.training.augment import augment
from pipelines.training.rand_augment import CHANGES, _coloured, _shaped

ALL = AugmentOptions(flip=True, crop=4, rand_augment=2, erasing=0.5, mixup=0.2, cutmix=1.0)


def batch(rows: int = 64, size: int = 12, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and row i of class i."""
    pixels = np.random.default_rng(1).integers(1, 256, (rows, size, size, channels), np.uint8)
    return pixels, np.eye(rows, dtype=np.float32)


def changed(options: AugmentOptions, images: np.ndarray, labels: np.ndarray, seed: int = 5) -> tuple:
    """Both, as arrays."""
    made = augment(options, seed)
    assert made is not None
    return tuple(np.asarray(part) for part in made(images, labels))


def test_nothing_asked_is_nothing_done() -> None:
    assert augment(AugmentOptions(), 5) is None
    assert augment(AugmentOptions(magnitude=0.9), 5) is None


def test_a_flip_exchanges_left_and_right_in_half_of_the_images_and_leaves_the_labels() -> None:
    images, labels = batch(400)
    found, same = changed(AugmentOptions(flip=True), images, labels)
    mirrored = (found == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (found == images).all(axis=(1, 2, 3))).all()
    assert 150 < mirrored.sum() < 250
    assert (same == labels).all()


def test_a_crop_moves_each_image_by_itself_and_brings_in_black() -> None:
    images, labels = batch(300)
    found, same = changed(AugmentOptions(crop=2), images, labels)
    bordered = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for row in range(len(images)):
        places = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if (found[row] == bordered[row, down : down + 12, right : right + 12]).all()
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25
    assert (same == labels).all()


def test_erasing_fills_one_rectangle_of_the_share_of_images_that_is_asked_with_noise() -> None:
    images, labels = batch(400, size=20)
    found, same = changed(AugmentOptions(erasing=0.25), images, labels)
    erased = (found != images).any(axis=3)
    touched = np.flatnonzero(erased.any(axis=(1, 2)))
    assert 60 < len(touched) < 140
    for row in touched:
        rows, columns = erased[row].any(axis=1).nonzero()[0], erased[row].any(axis=0).nonzero()[0]
        assert erased[row, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    noise = found[erased]
    assert 0 <= noise.min() < 5 < 250 < noise.max() <= 255 and 120 < noise.mean() < 135
    assert (same == labels).all()


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}], ids=str)
def test_labels_mix_in_the_same_share_as_pixels(options: dict) -> None:
    # Image i is wholly of brightness i + 1, so that its mean tells the shares.
    rows = 64
    images = np.broadcast_to(np.arange(1.0, rows + 1)[:, None, None, None], (rows, 16, 16, 1))
    found, shares = changed(AugmentOptions(**options), images, np.eye(rows))
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), shares @ np.arange(1, rows + 1), rtol=1e-5)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert (np.count_nonzero(shares, axis=1) <= 2).all()
    assert len(np.unique(shares.max(axis=1))) > rows / 4


def test_shares_of_mixup_are_those_of_the_beta_distribution() -> None:
    images, labels = np.zeros((4000, 1, 1, 1)), np.zeros((4000, 2))
    labels[:2000, 0] = labels[2000:, 1] = 1
    _, shares = changed(AugmentOptions(mixup=0.2), images, labels)
    kept = np.concatenate([shares[:2000, 0], shares[2000:, 1]])
    # Var Beta(a, a) = 1 / (4 (2a + 1)).
    assert abs(kept.mean() - 0.5) < 0.03 and abs(kept.var() - 1 / 5.6) < 0.01


def test_cutmix_takes_a_rectangle_of_another_image_as_it_is() -> None:
    images, labels = batch()
    found, _ = changed(AugmentOptions(cutmix=1.0), images, labels)
    own, other = (found == images).all(axis=3), (found == images[::-1]).all(axis=3)
    assert (own | other).all()
    assert (~own).any(axis=(1, 2)).sum() > 40


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_of_rand_augment_keeps_pixels_in_their_range_and_does_what_it_says(name: str) -> None:
    images = np.random.default_rng(2).integers(20, 200, (2, 9, 9, 3)).astype(np.float32)
    signs = np.float32([1, -1]).reshape(1, 2, 1, 1)
    chosen = np.full((1, 2, 1, 1), CHANGES.index(name))
    shaped = np.asarray(_shaped(ops.convert_to_tensor(images), ops.convert_to_tensor(chosen), 0.5 * signs))
    found = np.asarray(_coloured(shaped, ops.convert_to_tensor(chosen[0, ..., None]), 0.5, signs[0, ..., None]))
    assert found.shape == images.shape and found.min() >= 0 and found.max() <= 255
    assert (np.abs(found - images).max() < 1e-3) == (name == "identity")
    if name == "translate_x":
        np.testing.assert_allclose(found[0, :, 0], 0.65 * images[0, :, 1] + 0.35 * images[0, :, 2], rtol=1e-4)
    if name == "brightness":
        np.testing.assert_allclose(found[1], 0.55 * images[1], rtol=1e-5)
    if name == "colour":
        assert found[1].std(axis=2).mean() < images[1].std(axis=2).mean() < found[0].std(axis=2).mean()
    if name == "posterize":
        assert set(np.unique(found % 4)) == {0.0}
    if name == "solarize":
        np.testing.assert_array_equal(found, np.where(images >= 128, 255 - images, images))
    if name == "auto_contrast":
        assert (found.min(axis=(1, 2)) == 0).all() and np.allclose(found.max(axis=(1, 2)), 255)


def test_one_seed_gives_one_series_of_batches_and_another_seed_another_compiled() -> None:
    images, labels = batch(8)
    step = compiled()
    first, again, other = (series(step, seed, images, labels) for seed in (5, 5, 6))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != first[2]).any() and (first[0] != other[0]).any()


def compiled() -> Any:
    """(random state, images, labels) -> (images, labels, random state), as a training step has it."""
    made = augment(ALL, 0)
    assert made is not None

    def pure(state: Any, images: Any, labels: Any) -> Any:
        with keras.StatelessScope([(made.randomness.state, state)]) as scope:
            return *made(images, labels), scope.get_current_value(made.randomness.state)

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(pure, autograph=False)
    import jax

    return jax.jit(pure)


def series(step: Any, seed: int, images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Two batches in turn."""
    made = augment(ALL, seed)
    assert made is not None
    *first, state = step(made.randomness.state.value, images, labels)
    return [np.asarray(part) for part in (*first, *step(state, images, labels)[:2])]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 7, 3, 1), (5, 3, 7, 4)])
def test_any_shape_of_image_and_batch_is_taken(shape: tuple[int, ...]) -> None:
    images, labels = np.full(shape, 9, np.uint8), np.eye(3)[np.zeros(shape[0], int)]
    found, shares = changed(ALL, images, labels)
    assert found.shape == shape and found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_allclose(shares, labels, atol=1e-6)
