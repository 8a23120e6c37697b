"""What is done to training images: mirrored, moved, changed in shape and colour, partly erased, mixed with each other.

All of it happens in the training step, on a batch at once, with draws of its own for each image, so that it is compiled
with the step and is the same arithmetic on TensorFlow and JAX. Keras has layers for all of it, which are not used:
RandomCrop cuts all images of a batch at one place, RandomErasing fills half of its rectangle with black, CutMix gives a
label the share of its rectangle before that is cut to whole pixels, draws of MixUp and CutMix are slow to compile
on JAX, and RandAugment is slow (`rand_augment`).
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from scipy.special import betaincinv  # type: ignore[import-untyped]

from pipelines.config import AugmentOptions
from pipelines.models.blocks import derived_seed
from pipelines.training.rand_augment import rand_augment, sampled

STEPS = 4096
"""Values that a share drawn from a Beta distribution can have, all equally likely: its quantiles."""


def augment(options: AugmentOptions, seed: int) -> "Augment | None":
    """What is configured, or None where that is nothing. Equal seeds draw alike."""
    asked = (options.flip, options.crop, options.rand_augment, options.erasing, options.mixup, options.cutmix)
    return Augment(options, seed) if any(asked) else None


class Augment:
    """(images (n, h, w, channels) from 0 to 255, labels (n, C), one-hot) -> both changed, as float32.

    Each call draws anew, from `randomness`, whose state moves on.
    """

    def __init__(self, options: AugmentOptions, seed: int) -> None:
        self.options = options
        self.randomness = keras.random.SeedGenerator(derived_seed(seed, "augment"))

    def __call__(self, images: Any, labels: Any) -> tuple[Any, Any]:
        """Flip, crop, RandAugment, erasing and mixing, in this order, as far as they are configured."""
        asked, randomness = self.options, self.randomness
        images, labels = ops.cast(images, "float32"), ops.cast(labels, "float32")
        if asked.flip:
            images = flip(images, randomness)
        if asked.crop:
            images = crop(images, asked.crop, randomness)
        if asked.rand_augment:
            images = rand_augment(images, asked.rand_augment, asked.magnitude, randomness)
        if asked.erasing:
            images = erase(images, asked.erasing, randomness)
        if asked.mixup and asked.cutmix:
            coin = keras.random.uniform((), seed=randomness) < 0.5
            ways = kept_by_mixup(images, asked.mixup, randomness), kept_by_cutmix(images, asked.cutmix, randomness)
            images, labels = mix(images, labels, ops.where(coin, *ways))
        elif asked.mixup:
            images, labels = mix(images, labels, kept_by_mixup(images, asked.mixup, randomness))
        elif asked.cutmix:
            images, labels = mix(images, labels, kept_by_cutmix(images, asked.cutmix, randomness))
        return images, labels


def flip(images: Any, randomness: Any) -> Any:
    """(n, h, w, channels), left and right exchanged in half of them."""
    return ops.where(_uniform(images, randomness) < 0.5, ops.flip(images, axis=2), images)


def crop(images: Any, pixels: int, randomness: Any) -> Any:
    """(n, h, w, channels), each moved by up to `pixels` up or down, and left or right; what comes in is black.

    The same as a black border so wide and a crop of the old size.
    """
    _, height, width, _ = images.shape
    shape = (ops.shape(images)[0], 1, 1)
    down, right = (keras.random.randint(shape, -pixels, pixels + 1, seed=randomness) for _ in range(2))
    return sampled(images, down + ops.arange(height)[:, None], right + ops.arange(width)[None, :])


def erase(images: Any, share: float, randomness: Any) -> Any:
    """(n, h, w, channels), in a `share` of them a rectangle filled with noise (Zhong et al., AAAI 2020, algorithm 1).

    Its area is 0.02 to 0.4 of the image's, its height 0.3 to 1/0.3 times its width, as in the paper; each pixel is any
    of 0 to 255.
    """
    area, aspect = (_uniform(images, randomness, *limits) for limits in ((0.02, 0.4), (np.log(0.3), -np.log(0.3))))
    asked = _uniform(images, randomness) < share
    sides = ops.sqrt(area * ops.exp(aspect)), ops.sqrt(area * ops.exp(-aspect))
    inside = ops.logical_and(_rectangle(images, *sides, randomness), asked)
    return ops.where(inside, keras.random.uniform(ops.shape(images), 0.0, 255.0, seed=randomness), images)


def mix(images: Any, labels: Any, kept: Any) -> tuple[Any, Any]:
    """Images, each laid over another of the batch: of each pixel it keeps the share `kept` (n, h, w, 1).

    A label keeps the share that its image keeps. The other image is the one as far from the batch's other end: batches
    are shuffled.
    """
    share = ops.mean(kept, axis=(1, 2))
    others, of_others = ops.flip(images, axis=0), ops.flip(labels, axis=0)
    return kept * images + (1 - kept) * others, share * labels + (1 - share) * of_others


def kept_by_mixup(images: Any, alpha: float, randomness: Any) -> Any:
    """(n, h, w, 1): one share an image, from Beta(alpha, alpha) (Zhang et al., ICLR 2018, section 2)."""
    return ops.broadcast_to(_beta(images, alpha, randomness), (*ops.shape(images)[:3], 1))


def kept_by_cutmix(images: Any, alpha: float, randomness: Any) -> Any:
    """(n, h, w, 1): 0 in a rectangle of the image's proportions, 1 around it (Yun et al., ICCV 2019, section 3.1).

    The rectangle's area is drawn from Beta(alpha, alpha), as a share of the image's.
    """
    side = ops.sqrt(_beta(images, alpha, randomness))
    return 1 - ops.cast(_rectangle(images, side, side, randomness), "float32")


def _rectangle(images: Any, down: Any, across: Any, randomness: Any) -> Any:
    """(n, h, w, 1), whether a pixel lies in a rectangle whose sides are shares (n, 1, 1, 1) of the image's.

    Its middle is anywhere in the image, and what lies outside of it is cut off.
    """
    _, height, width, _ = images.shape
    middle_y, middle_x = (_uniform(images, randomness) for _ in range(2))
    y = (ops.arange(height, dtype="float32")[:, None, None] + 0.5) / height
    x = (ops.arange(width, dtype="float32")[None, :, None] + 0.5) / width
    return ops.logical_and(ops.abs(y - middle_y) < down / 2, ops.abs(x - middle_x) < across / 2)


def _beta(images: Any, alpha: float, randomness: Any) -> Any:
    """(n, 1, 1, 1) from Beta(alpha, alpha)."""
    quantiles = betaincinv(alpha, alpha, (np.arange(STEPS) + 0.5) / STEPS).astype(np.float32)
    drawn = keras.random.randint((ops.shape(images)[0], 1, 1, 1), 0, STEPS, seed=randomness)
    return ops.take(ops.convert_to_tensor(quantiles), drawn, axis=0)


def _uniform(images: Any, randomness: Any, least: float = 0.0, most: float = 1.0) -> Any:
    """(n, 1, 1, 1), one an image."""
    return keras.random.uniform((ops.shape(images)[0], 1, 1, 1), least, most, seed=randomness)
