"""RandAugment: a few random changes of shape and colour an image, all of one strength.

Keras's layer makes every change to every image of a batch and takes one for all of it, which is slow to run and to
compile. Here each image has changes of its own, all changes of shape are one resampling, and those of colour one blend.
"""

import math
from typing import Any

import keras
from keras import ops

CHANGES = (
    "identity", "rotate", "shear_x", "shear_y", "translate_x", "translate_y", "brightness", "contrast", "colour",
    "sharpness", "posterize", "solarize", "auto_contrast",
)  # fmt: skip
"""Those of the paper, but for equalize, whose histograms cost more than all the others."""


def rand_augment(images: Any, count: int, magnitude: float, randomness: Any) -> Any:
    """(n, h, w, channels) from 0 to 255 -> the same: `count` of `CHANGES` each (Cubuk et al. 2020, algorithm 1).

    `magnitude`: 0 to 1, at which it is rotated by 30°, sheared or moved by 0.3 of its side, made 0.9 brighter or darker
    (and so on), cut to 4 bits, or inverted wholly. What has a sign takes either. Shape goes before colour, which is the
    order drawn but for what comes in at the edges, which is black.
    """
    number = ops.shape(images)[0]
    chosen = keras.random.randint((count, number, 1, 1), 0, len(CHANGES), seed=randomness)
    signs = ops.where(keras.random.uniform((count, number, 1, 1), seed=randomness) < 0.5, -1.0, 1.0)
    images = _shaped(images, chosen, magnitude * signs)
    for change, sign in zip(_each(chosen), _each(signs), strict=True):
        images = _coloured(images, change[..., None], magnitude, sign[..., None])
    return images


def _shaped(images: Any, chosen: Any, signed: Any) -> Any:
    """All changes of shape, as one way to look pixels up; `chosen` and `signed` are (count, n, 1, 1)."""
    _, height, width, _ = images.shape
    y = ops.arange(height, dtype="float32")[:, None] - (height - 1) / 2
    x = ops.arange(width, dtype="float32")[None, :] - (width - 1) / 2
    for change, size in zip(_each(chosen), _each(signed), strict=True):
        angle, shear_x, shear_y, move_x, move_y = (
            ops.where(change == CHANGES.index(name), size * most, 0.0)
            for name, most in (
                ("rotate", math.pi / 6),
                ("shear_x", 0.3),
                ("shear_y", 0.3),
                ("translate_x", 0.3 * width),
                ("translate_y", 0.3 * height),
            )
        )
        cos, sin = ops.cos(angle), ops.sin(angle)
        x, y = cos * x + (shear_x - sin) * y + move_x, cos * y + (shear_y + sin) * x + move_y
    y, x = y + (height - 1) / 2, x + (width - 1) / 2
    top, left = ops.floor(y), ops.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    top, left = ops.cast(top, "int32"), ops.cast(left, "int32")
    upper = sampled(images, top, left) * (1 - right) + sampled(images, top, left + 1) * right
    lower = sampled(images, top + 1, left) * (1 - right) + sampled(images, top + 1, left + 1) * right
    return upper * (1 - down) + lower * down


def _coloured(images: Any, change: Any, magnitude: float, sign: Any) -> Any:
    """One change of colour an image; `change` and `sign` are (n, 1, 1, 1)."""

    def among(name: str) -> Any:
        return change == CHANGES.index(name)

    # Brightness, contrast, colour and sharpness are the way from black, the mean, grey or a blurred image, and on.
    grey = ops.mean(images, axis=3, keepdims=True)
    blurred = (9 * ops.average_pool(images, 3, 1, padding="same") + 4 * images) / 13
    start, factor = images, 1 + 0.9 * magnitude * sign
    for name, without in (
        ("brightness", 0.0),
        ("contrast", ops.mean(grey, axis=(1, 2), keepdims=True)),
        ("colour", grey),
        ("sharpness", blurred),
    ):
        start = ops.where(among(name), without, start)
    step = 2.0 ** round(4 * magnitude)
    least, most = (way(images, axis=(1, 2), keepdims=True) for way in (ops.min, ops.max))
    stretched = (images - least) * (255 / ops.maximum(most - least, 1.0))
    inverted = ops.where(images >= 256 * (1 - magnitude), 255 - images, images)
    images = ops.clip(start + (images - start) * factor, 0, 255)
    images = ops.where(among("posterize"), ops.floor(images / step) * step, images)
    images = ops.where(among("solarize"), inverted, images)
    return ops.where(among("auto_contrast"), stretched, images)


def sampled(images: Any, rows: Any, columns: Any) -> Any:
    """(n, h, w, channels) looked up at `rows` and `columns` (broadcast to n, h, w); 0 outside of the image."""
    number = ops.shape(images)[0]
    _, height, width, channels = images.shape
    inside = ops.logical_and(ops.logical_and(rows >= 0, rows < height), ops.logical_and(columns >= 0, columns < width))
    start = ops.arange(number, dtype="int32")[:, None, None] * (height * width)
    places = start + ops.clip(rows, 0, height - 1) * width + ops.clip(columns, 0, width - 1)
    taken = ops.take(ops.reshape(images, (-1, channels)), places, axis=0)
    return ops.where(inside[..., None], taken, 0.0)


def _each(values: Any) -> list[Any]:
    return [values[place] for place in range(values.shape[0])]
