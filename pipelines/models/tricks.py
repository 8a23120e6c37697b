"""Parts that any convolutional network may have: squeeze-and-excitation, BlurPool, DropPath.

Made of layers of Keras, as in `convolutions`, so that a saved network needs nothing of ours to load.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from pipelines.config import TrickOptions
from pipelines.models.blocks import derived_seed
from pipelines.models.convolutions import depthwise, normalised


def squeeze_excitation(x: Any, ratio: int, *, seed: int, name: str) -> Any:
    """(n, h, w, channels), each channel times a gate in [0, 1] that all of the image decides on.

    Gates = sigmoid(W₂ · relu(W₁ · mean over the image)), with channels / ratio numbers between (Hu, Shen and Sun,
    CVPR 2018, equations 2 to 4).
    """
    channels = x.shape[-1]
    gates = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    for part, units, activation in (("reduce", max(1, channels // ratio), "relu"), ("excite", channels, "sigmoid")):
        start = keras.initializers.GlorotUniform(derived_seed(seed, name, part))
        gates = keras.layers.Dense(units, activation=activation, kernel_initializer=start, name=f"{name}_{part}")(gates)
    return keras.layers.Multiply(name=name)([x, gates])


def blur_pool(x: Any, stride: int = 2, *, name: str) -> Any:
    """(n, h, w, channels) -> (n, ⌈h / stride⌉, ⌈w / stride⌉, channels): blurred, then one pixel of each stride.

    The blur is (1, 2, 1)/4 both ways. Without it what a strided layer gives depends on whether an edge lies on an even
    column (Zhang, ICML 2019). Edges are reflected, so that a constant image stays constant.
    """
    line = np.array([0.25, 0.5, 0.25])
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    layer = keras.layers.DepthwiseConv2D(
        3,
        strides=stride,
        use_bias=False,
        depthwise_initializer=keras.initializers.Constant(np.outer(line, line)[:, :, None, None].tolist()),
        trainable=False,
        name=name,
    )
    return layer(x)


def strided_depthwise(x: Any, stride: int, activation: Any, tricks: TrickOptions, *, seed: int, name: str) -> Any:
    """A normalised depthwise convolution, blurred in place of strided where that is asked."""
    blurred = tricks.blur_pool and stride > 1
    x = normalised(depthwise(x, stride=1 if blurred else stride, seed=seed, name=name), activation, name=name)
    return blur_pool(x, stride, name=f"{name}_blur") if blurred else x


def gated(x: Any, tricks: TrickOptions, *, seed: int, name: str) -> Any:
    """With squeeze-and-excitation where that is asked."""
    ratio = tricks.squeeze_excitation
    return squeeze_excitation(x, ratio, seed=seed, name=f"{name}_se") if ratio else x


def drop_path(x: Any, rate: float, *, seed: int, name: str) -> Any:
    """In training, a residual branch left out for a share `rate` of the images, the others' divided by 1 - rate.

    Stochastic depth (Huang et al., ECCV 2016): a dropout with one coin an image. Serving has the branch's mean.
    """
    if rate == 0:
        return x
    coins = (None, *[1] * (len(x.shape) - 1))
    return keras.layers.Dropout(rate, noise_shape=coins, seed=derived_seed(seed, name), name=name)(x)


def path_rates(rate: float, branches: int) -> list[float]:
    """Rates of the branches of a network, from the first: in a straight line up to `rate` for the last.

    >>> path_rates(0.2, 4)
    [0.05, 0.1, 0.15, 0.2]
    """
    return [round(rate * (place + 1) / branches, 6) for place in range(branches)]
