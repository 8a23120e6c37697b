"""MobileNet V1 and V2, networks of depthwise separable convolutions, from pixels to a vector.

With the large stem they are those of keras.applications, weight for weight; Thaw's own, because theirs take no seed, no
stem for small images and none of the tricks.
"""

from typing import Any

import keras

from pipelines.config import ClassifierOptions
from pipelines.models.convolutions import convolution, normalised, pointwise
from pipelines.models.tricks import drop_path, gated, path_rates, strided_depthwise

ACTIVATION = "relu6"
"""Of both papers: bounded, so that eight bits can hold it."""
_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Channels and stride of each unit (Howard et al. 2017, table 1)."""
_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, units and the first unit's stride of each stage (Sandler et al., CVPR 2018, table 2)."""


def mobilenet_v1(x: Any, options: ClassifierOptions, *, seed: int) -> Any:
    """(n, h, w, channels) -> (n, 1024·width): a depthwise and a pointwise convolution a unit (Howard et al. 2017).

    The small stem leaves out the first two halvings: of 32 × 32 pixels 4 × 4 are left, as of 224 × 224 7 × 7.
    """
    small = options.stem == "small"
    x = convolution(x, int(32 * options.width), size=3, stride=1 if small else 2, seed=seed, name="stem")
    x = normalised(x, ACTIVATION, name="stem")
    for place, (channels, stride) in enumerate(_V1):
        name = f"unit_{place}"
        stride = 1 if small and place == 1 else stride
        x = _depthwise(x, stride, options, seed=seed, name=f"{name}_depthwise")
        x = pointwise(x, int(channels * options.width), seed=seed, name=f"{name}_project")
        x = normalised(x, ACTIVATION, name=f"{name}_project")
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def mobilenet_v2(x: Any, options: ClassifierOptions, *, seed: int) -> Any:
    """(n, h, w, channels) -> (n, 1280, ·width above 1): inverted residuals (Sandler et al., CVPR 2018).

    A unit widens, filters each channel, and narrows without an activation, which would lose what a narrow map holds.
    The small stem leaves out the first two halvings.
    """
    small = options.stem == "small"
    x = convolution(x, _of_eight(32 * options.width), size=3, stride=1 if small else 2, seed=seed, name="stem")
    x = normalised(x, ACTIVATION, name="stem")
    rates = iter(path_rates(options.tricks.drop_path, sum(units for *_, units, _ in _V2)))
    for stage, (expansion, channels, units, first) in enumerate(_V2):
        for unit in range(units):
            name, inside = f"stage_{stage}_{unit}", x
            stride = first if unit == 0 and not (small and stage == 1) else 1
            if expansion > 1:
                inside = pointwise(inside, expansion * x.shape[-1], seed=seed, name=f"{name}_expand")
                inside = normalised(inside, ACTIVATION, name=f"{name}_expand")
            inside = _depthwise(inside, stride, options, seed=seed, name=f"{name}_depthwise")
            inside = pointwise(inside, _of_eight(channels * options.width), seed=seed, name=f"{name}_project")
            inside = normalised(inside, None, name=f"{name}_project")
            rate = next(rates)
            if stride == 1 and inside.shape[-1] == x.shape[-1]:
                inside = drop_path(inside, rate, seed=seed, name=f"{name}_drop")
                inside = keras.layers.Add(name=f"{name}_add")([x, inside])
            x = inside
    last = _of_eight(1280 * options.width) if options.width > 1 else 1280
    x = normalised(pointwise(x, last, seed=seed, name="last"), ACTIVATION, name="last")
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def _depthwise(x: Any, stride: int, options: ClassifierOptions, *, seed: int, name: str) -> Any:
    """A depthwise convolution with what goes with it."""
    x = strided_depthwise(x, stride, ACTIVATION, options.tricks, seed=seed, name=name)
    return gated(x, options.tricks, seed=seed, name=name)


def _of_eight(channels: float) -> int:
    """The nearest multiple of 8, which processors like, but never more than a tenth below."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near
