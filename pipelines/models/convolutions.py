"""Convolutions as blocks: standard, grouped, depthwise and pointwise ones, and the shuffle of channels between groups.

Networks are put together from layers of Keras alone. Such a file loads with Keras and nothing else, in its safe mode,
so that any program can take it as an encoder. What a block costs is left to `costs`.
"""

import math
from typing import Any

import keras

from pipelines.errors import ConfigError
from pipelines.models.blocks import derived_seed

MOMENTUM = 0.9
"""Of batch normalisation's moving averages. Keras's 0.99 takes some hundred steps to forget how it started."""


def convolution(x: Any, filters: int, *, size: int, stride: int = 1, groups: int = 1, seed: int, name: str) -> Any:
    """(n, h, w, channels) -> (n, h / stride, w / stride, filters), without bias: batch normalisation has one.

    `groups`: filters and channels in that many parts, each filter reading its own part alone.
    """
    channels = x.shape[-1]
    _divisible(channels, filters, groups, name)
    layer = keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="same",
        groups=groups,
        use_bias=False,
        kernel_initializer=_he(size * size * channels // groups, seed, name),
        name=name,
    )
    return layer(x)


def depthwise(x: Any, *, size: int = 3, stride: int = 1, seed: int, name: str) -> Any:
    """(n, h, w, channels) -> (n, h / stride, w / stride, channels): each channel by a filter of its own."""
    layer = keras.layers.DepthwiseConv2D(
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        # Keras takes all channels for inputs of a filter that reads one.
        depthwise_initializer=_he(size * size, seed, name),
        name=name,
    )
    return layer(x)


def pointwise(x: Any, filters: int, *, groups: int = 1, seed: int, name: str) -> Any:
    """(n, h, w, channels) -> (n, h, w, filters), by filters of size 1 that each read one of `groups` parts.

    A grouped one is an einsum, because grouped convolutions lack kernels on some CPUs and in LiteRT.
    """
    if groups == 1:
        return convolution(x, filters, size=1, seed=seed, name=name)
    _, height, width, channels = x.shape
    _divisible(channels, filters, groups, name)
    x = keras.layers.Reshape((height, width, groups, channels // groups), name=f"{name}_split")(x)
    x = keras.layers.EinsumDense(
        "bhwgc,gcd->bhwgd",
        (height, width, groups, filters // groups),
        kernel_initializer=_he(channels // groups, seed, name),
        name=name,
    )(x)
    return keras.layers.Reshape((height, width, filters), name=f"{name}_join")(x)


def channel_shuffle(x: Any, groups: int, *, name: str) -> Any:
    """Channels dealt round: of channels in `groups` parts, first the first of each part, then the second of each.

    So that the next grouped convolution reads something of every part (Zhang et al., ShuffleNet, CVPR 2018, figure 1).
    """
    _, height, width, channels = x.shape
    _divisible(channels, channels, groups, name)
    x = keras.layers.Reshape((height, width, groups, channels // groups), name=f"{name}_split")(x)
    x = keras.layers.Permute((1, 2, 4, 3), name=name)(x)
    return keras.layers.Reshape((height, width, channels), name=f"{name}_join")(x)


def normalised(x: Any, activation: str | None, *, name: str) -> Any:
    """Batch normalisation, then the activation."""
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn")(x)
    return x if activation is None else keras.layers.Activation(activation, name=f"{name}_{activation}")(x)


def _he(inputs: int, seed: int, name: str) -> Any:
    """Start of a filter that reads `inputs` numbers (He et al., ICCV 2015)."""
    return keras.initializers.RandomNormal(stddev=math.sqrt(2 / inputs), seed=derived_seed(seed, name))


def _divisible(channels: int, filters: int, groups: int, name: str) -> None:
    if channels % groups or filters % groups:
        raise ConfigError(
            f"channels must be divisible by the number of groups, {name} has {channels} in and {filters} out by "
            f"{groups} groups; set classifier.groups to a divisor, or another classifier.width"
        )
