"""What a network costs: trainable parameters, and multiply-adds of its convolutions and dense layers for one input.

The formulas are those of MobileNet (Howard et al. 2017, section 3.1) for a map of `height` × `width` that is written,
`inputs` and `outputs` channels, and filters of `size` × `size`. Counts leave out what papers leave out: biases,
normalisation, activations, pooling.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import keras

from pipelines.models.nearest import NearestNeighbours


def standard(height: int, width: int, inputs: int, outputs: int, size: int, groups: int = 1) -> int:
    """HWNK²M/G of a convolution, grouped or not.

    >>> standard(4, 4, 6, 8, 3), standard(4, 4, 6, 8, 3, groups=2)
    (6912, 3456)
    """
    return height * width * inputs * size * size * outputs // groups


def depthwise(height: int, width: int, channels: int, size: int) -> int:
    """HWK²N: every channel by itself."""
    return standard(height, width, channels, channels, size, groups=channels)


def pointwise(height: int, width: int, inputs: int, outputs: int, groups: int = 1) -> int:
    """HWNM/G: filters of size 1."""
    return standard(height, width, inputs, outputs, 1, groups)


@dataclass(frozen=True)
class Cost:
    """Of one input: an image, or a row."""

    parameters: int
    """Trainable ones."""
    multiply_adds: int


def cost(model: Any) -> Cost:
    """The cost of a built functional or sequential model, models inside it included."""
    parameters = sum(_size(weight) for weight in model.trainable_variables)
    return Cost(parameters, _multiply_adds(model))


def costs(model: Any) -> dict[str, int]:
    """Parameters and multiply-adds of one image; of nearest neighbours the numbers that they remember, and look at."""
    if isinstance(model, NearestNeighbours):
        return {"parameters": int(model.vectors.size), "multiply_adds": int(model.vectors.size)}
    return asdict(cost(model))


def _multiply_adds(layer: Any) -> int:
    if isinstance(layer, keras.Model):
        return sum(_multiply_adds(inner) for inner in layer.layers)
    if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D):
        # A kernel's axes beside its size: what a filter reads, and filters; a depthwise one reads one channel.
        return _positions(layer) * _size(layer.kernel)
    if isinstance(layer, keras.layers.SeparableConv2D):
        return _positions(layer) * (_size(layer.depthwise_kernel) + _size(layer.pointwise_kernel))
    if isinstance(layer, keras.layers.Dense):
        return _numbers(layer) * int(layer.kernel.shape[0])
    if isinstance(layer, keras.layers.EinsumDense):
        # Each number of the output sums over the kernel's axes that are not the output's.
        _, kernel, output = layer.equation.replace("->", ",").split(",")
        summed = [int(size) for axis, size in zip(kernel, layer.kernel.shape, strict=True) if axis not in output]
        return _numbers(layer) * math.prod(summed)
    return 0


def _positions(layer: Any) -> int:
    """Places of the map that the layer writes, channels last."""
    _, height, width, _ = layer.output.shape
    return int(height * width)


def _numbers(layer: Any) -> int:
    """Numbers that the layer writes for one input."""
    return int(math.prod(layer.output.shape[1:]))


def _size(weight: Any) -> int:
    return int(math.prod(weight.shape))
