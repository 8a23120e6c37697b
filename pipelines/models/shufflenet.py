"""ShuffleNet V1 and V2, grouped or split convolutions with shuffled channels, from pixels to a vector.

No maintained Keras library has them. V2's rules come from measured time: equal widths in and out cost the least memory
access, grouped convolutions and many small branches cost time that multiply-adds do not show, and so does every
element-wise operation.
"""

from typing import Any

import keras
from keras import ops

from pipelines.config import ClassifierOptions
from pipelines.errors import ConfigError
from pipelines.models.convolutions import channel_shuffle, convolution, normalised, pointwise
from pipelines.models.tricks import blur_pool, drop_path, gated, path_rates, strided_depthwise

_UNITS = (4, 8, 4)
"""Units of the stages, in both papers."""
_V1_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Groups -> channels of the first stage, each next stage twice as many (Zhang et al., CVPR 2018, table 1)."""
_V2_CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
"""Width -> channels of the stages and of the last convolution (Ma et al., ECCV 2018, table 5)."""


def shufflenet_v1(x: Any, options: ClassifierOptions, *, seed: int) -> Any:
    """(n, h, w, channels) -> (n, channels of the last stage): grouped pointwise convolutions (Zhang et al., CVPR 2018).

    The small stem leaves out the first two halvings, the stem's stride and the pooling after it.
    """
    groups = options.groups
    x = _stem(x, int(24 * options.width), options, seed=seed)
    rates = iter(path_rates(options.tricks.drop_path, sum(_UNITS)))
    for stage, units in enumerate(_UNITS):
        channels = int(_V1_CHANNELS[groups] * 2**stage * options.width)
        for unit in range(units):
            name, stride = f"stage_{stage}_{unit}", 2 if unit == 0 else 1
            # A strided unit puts the pooled input beside its output, which has the rest of the channels.
            made = channels - x.shape[-1] if stride == 2 else channels
            # The stem's channels are too few for groups.
            first = 1 if stage == unit == 0 else groups
            inside = pointwise(x, channels // 4, groups=first, seed=seed, name=f"{name}_reduce")
            inside = normalised(inside, "relu", name=f"{name}_reduce")
            if groups > 1:
                inside = channel_shuffle(inside, groups, name=f"{name}_shuffle")
            inside = strided_depthwise(inside, stride, None, options.tricks, seed=seed, name=f"{name}_depthwise")
            inside = pointwise(inside, made, groups=groups, seed=seed, name=f"{name}_expand")
            inside = normalised(inside, None, name=f"{name}_expand")
            inside = gated(inside, options.tricks, seed=seed, name=name)
            inside = drop_path(inside, next(rates), seed=seed, name=f"{name}_drop")
            if stride == 2:
                pooled = keras.layers.AveragePooling2D(3, 2, padding="same", name=f"{name}_pool")(x)
                x = keras.layers.Concatenate(name=f"{name}_join")([pooled, inside])
            else:
                x = keras.layers.Add(name=f"{name}_add")([x, inside])
            x = keras.layers.Activation("relu", name=f"{name}_relu")(x)
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def shufflenet_v2(x: Any, options: ClassifierOptions, *, seed: int) -> Any:
    """(n, h, w, channels) -> (n, 1024, at width 2 2048): half of the channels pass as they are (Ma et al., ECCV 2018).

    The small stem leaves out the first two halvings. Raises ConfigError for a width that the paper does not have.
    """
    if options.width not in _V2_CHANNELS:
        known = ", ".join(str(width) for width in _V2_CHANNELS)
        raise ConfigError(
            f"the width of shufflenet_v2 must be one of {known}, got {options.width}; set classifier.width"
        )
    *stages, last = _V2_CHANNELS[options.width]
    x = _stem(x, 24, options, seed=seed)
    for stage, (units, channels) in enumerate(zip(_UNITS, stages, strict=True)):
        for unit in range(units):
            name, half = f"stage_{stage}_{unit}", channels // 2
            if unit == 0:
                left = strided_depthwise(x, 2, None, options.tricks, seed=seed, name=f"{name}_left_depthwise")
                left = pointwise(left, half, seed=seed, name=f"{name}_left")
                left, right = normalised(left, "relu", name=f"{name}_left"), x
            else:
                left, right = ops.split(x, 2, axis=-1)
            right = normalised(pointwise(right, half, seed=seed, name=f"{name}_first"), "relu", name=f"{name}_first")
            right = strided_depthwise(
                right, 2 if unit == 0 else 1, None, options.tricks, seed=seed, name=f"{name}_depthwise"
            )
            right = normalised(pointwise(right, half, seed=seed, name=f"{name}_second"), "relu", name=f"{name}_second")
            right = gated(right, options.tricks, seed=seed, name=name)
            x = keras.layers.Concatenate(name=f"{name}_join")([left, right])
            x = channel_shuffle(x, 2, name=f"{name}_shuffle")
    x = normalised(pointwise(x, last, seed=seed, name="last"), "relu", name="last")
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def _stem(x: Any, channels: int, options: ClassifierOptions, *, seed: int) -> Any:
    small = options.stem == "small"
    x = convolution(x, channels, size=3, stride=1 if small else 2, seed=seed, name="stem")
    x = normalised(x, "relu", name="stem")
    if small:
        return x
    blurred = options.tricks.blur_pool
    x = keras.layers.MaxPooling2D(3, 1 if blurred else 2, padding="same", name="stem_pool")(x)
    return blur_pool(x, name="stem_blur") if blurred else x
