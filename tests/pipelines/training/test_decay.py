"""What decays: what inputs are multiplied with."""

import keras
import numpy as np

from pipelines.training.decay import decaying, spare_the_rest


def network() -> keras.Model:
    image = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(3, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.EinsumDense("bhwc,cd->bhwd", (2, 2, 3), bias_axes="hwd", name="einsum")(x)
    x = keras.layers.DepthwiseConv2D(3, trainable=False, padding="same", name="blur")(x)
    x = keras.layers.PReLU(shared_axes=[1, 2], name="slopes")(x)
    return keras.Model(image, keras.layers.Dense(2, name="scores")(keras.layers.Flatten()(x)))


def test_kernels_decay_and_nothing_else() -> None:
    assert [weight.path for weight in decaying(network())] == ["conv/kernel", "einsum/kernel", "scores/kernel"]


def test_an_optimizer_leaves_the_rest_alone() -> None:
    model = network()
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    spare_the_rest(optimizer, model)
    for weight in model.trainable_variables:
        weight.assign(np.ones(weight.shape))
    optimizer.apply(
        [np.zeros(weight.shape, "float32") for weight in model.trainable_variables], model.trainable_variables
    )
    shrunk = {weight.path for weight in model.trainable_variables if float(np.ravel(weight)[0]) != 1}
    assert shrunk == {"conv/kernel", "einsum/kernel", "scores/kernel"}
