"""Parameters and multiply-adds: formulas and counter by hand."""

import keras
import pytest

from pipelines.errors import ConfigError
from pipelines.models import costs
from pipelines.models.convolutions import channel_shuffle, convolution, depthwise, pointwise
from pipelines.models.costs import Cost, cost

OF = {"seed": 1, "name": "b"}
BLOCKS = {
    "standard": (lambda x: convolution(x, 12, size=3, **OF), costs.standard(5, 4, 6, 12, 3)),
    "grouped": (lambda x: convolution(x, 12, size=3, groups=2, **OF), costs.standard(5, 4, 6, 12, 3, groups=2)),
    "depthwise": (lambda x: depthwise(x, **OF), costs.depthwise(5, 4, 6, 3)),
    "pointwise": (lambda x: pointwise(x, 12, **OF), costs.pointwise(5, 4, 6, 12)),
    "grouped pointwise": (lambda x: pointwise(x, 12, groups=3, **OF), costs.pointwise(5, 4, 6, 12, groups=3)),
    "strided": (lambda x: convolution(x, 12, size=3, stride=2, **OF), costs.standard(3, 2, 6, 12, 3)),
    "shuffle": (lambda x: channel_shuffle(x, 3, name="b"), 0),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_counter_agrees_with_the_formula_of_each_block(name) -> None:
    block, formula = BLOCKS[name]
    image = keras.Input((5, 4, 6))
    assert cost(keras.Model(image, block(image))).multiply_adds == formula


def test_formulas_by_hand() -> None:
    # A map of 2 × 2, 4 channels in, 8 out, 3 × 3: 4 · 4 · 9 · 8; in halves; each channel alone; 1 × 1.
    assert costs.standard(2, 2, 4, 8, 3) == 1152
    assert costs.standard(2, 2, 4, 8, 3, groups=2) == 576
    assert costs.depthwise(2, 2, 4, 3) == 144
    assert costs.pointwise(2, 2, 4, 8) == 128


def test_dense_layers_separable_ones_and_models_inside_count_too() -> None:
    image = keras.Input((4, 4, 3))
    inner = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.SeparableConv2D(5, 3, padding="same")])
    x = keras.layers.BatchNormalization()(inner(image))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    # 16 · (9 · 3 + 3 · 5) and 80 · 2; weights 27 + 15 + 5, scale and shift of 5, 160 + 2.
    assert cost(model) == Cost(parameters=47 + 10 + 162, multiply_adds=672 + 160)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be divisible .* 6 in and 12 out by 4 groups"):
        pointwise(keras.Input((5, 4, 6)), 12, groups=4, seed=1, name="b")
