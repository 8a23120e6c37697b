"""A plain network of 3 × 3 convolutions, from pixels to a vector: for small images and a processor's few cores.

It has more multiply-adds than the light networks and yet trains faster on a CPU, which does more of a standard
convolution's in a second than of depthwise ones: those wait for memory (docs/decisions/plain-convolutions-on-a-cpu.md).
"""

from typing import Any

import keras

from pipelines.config import ClassifierOptions
from pipelines.models.convolutions import convolution, normalised
from pipelines.models.tricks import blur_pool, gated

_CHANNELS = (32, 64, 64, 128, 128, 256)
"""Of each convolution; where they grow, the map is halved first."""


def plain(x: Any, options: ClassifierOptions, *, seed: int) -> Any:
    """(n, h, w, channels) -> (n, 256·width): convolutions, normalised, and maxima between them.

    The first six layers of VGG (Simonyan and Zisserman, ICLR 2015), with batch normalisation and half the channels. The
    large stem halves twice more at the start.
    """
    large = options.stem == "large"
    for place, channels in enumerate(_CHANNELS):
        name = f"unit_{place}"
        if place and channels > _CHANNELS[place - 1]:
            x = _halved(x, options, name=name)
        x = convolution(
            x, int(channels * options.width), size=3, stride=2 if large and not place else 1, seed=seed, name=name
        )
        x = normalised(x, "relu", name=name)
        x = gated(x, options.tricks, seed=seed, name=name)
        if large and not place:
            x = _halved(x, options, name="stem")
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def _halved(x: Any, options: ClassifierOptions, *, name: str) -> Any:
    """The maximum of each 2 × 2 pixels."""
    blurred = options.tricks.blur_pool
    x = keras.layers.MaxPooling2D(2, 1 if blurred else 2, padding="same", name=f"{name}_pool")(x)
    return blur_pool(x, name=f"{name}_blur") if blurred else x
