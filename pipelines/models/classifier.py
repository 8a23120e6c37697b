"""A classifier of images or of content: a network of a family, and a linear layer that scores the classes.

The network ends in the layer `features`, whose output is an item's content vector. How it is trained is left to
`pipelines.losses.classification` and `pipelines.training`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from pipelines.config import FLAT, ClassifierOptions
from pipelines.errors import ConfigError
from pipelines.models.blocks import derived_seed
from pipelines.models.linear import content_vector, linear, pixels_scaled, two_layer
from pipelines.models.mobilenet import mobilenet_v1, mobilenet_v2
from pipelines.models.plain import plain
from pipelines.models.shufflenet import shufflenet_v1, shufflenet_v2
from schemas.fitted import InputSpec

FAMILIES: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "two_layer": two_layer,
    "plain": plain,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "shufflenet_v1": shufflenet_v1,
    "shufflenet_v2": shufflenet_v2,
}
"""Name in the configuration -> from scaled pixels, or a content vector, to a vector (n, d)."""
OF_CONTENT = tuple(family for family in FLAT if family in FAMILIES)
"""Families that take content columns as well as images."""


def build_classifier(
    options: ClassifierOptions,
    inputs: tuple[int, int, int] | Sequence[InputSpec],
    classes: int,
    *,
    seed: int,
    mean: Any = None,
) -> Any:
    """A model from `inputs` to scores (n, classes); equal arguments, equal weights.

    `inputs` is an image's height, width and channels, pixels being 0 to 255, or the inputs of content that a record
    holds. `mean`: the training images' mean, which is taken off; absent: the middle of the range. Raises ConfigError
    where family and inputs do not fit.
    """
    if classes < 2:
        raise ConfigError(f"a classifier must have at least two classes, got {classes}; give it labels that differ")
    body = FAMILIES[options.family]
    if inputs and all(isinstance(size, int) for size in inputs):
        given: Any = keras.Input(tuple(inputs), name="image")
        x = pixels_scaled(given, mean)
    else:
        specs = [spec for spec in inputs if isinstance(spec, InputSpec)]
        if options.family not in OF_CONTENT:
            raise ConfigError(
                f"content columns must go to {' or '.join(OF_CONTENT)}, got classifier.family {options.family}; "
                "set classifier.family, or classify images"
            )
        given, x = content_vector(specs, options.embedding_dim, seed=seed)
    x = body(x, options, seed=seed)
    x = keras.layers.Identity(name="features")(x)
    if options.dropout:
        x = keras.layers.Dropout(options.dropout, seed=derived_seed(seed, "dropout"), name="dropout")(x)
    # Zeros: all classes start equal, the loss at ln C, or C - 1 of the support vector machine.
    scores = keras.layers.Dense(classes, kernel_initializer="zeros", name="scores")(x)
    model = keras.Model(given, scores, name=options.family)
    for place, operation in enumerate(model.operations):
        if not isinstance(operation, keras.Layer):
            # Keras numbers them through the process: the second of two equal models would be saved as other bytes.
            operation.name = f"operation_{place}"
    return model


def templates(model: Any) -> Any:
    """The rows of a linear image classifier's weights as pictures (classes, height, width, channels), uint8.

    Each is what its class looks like to the model (cs231n). All share one scale, grey is 0.
    """
    weights = np.asarray(model.get_layer("scores").kernel).T
    largest = max(float(np.abs(weights).max()), 1e-12)
    pictures = np.rint(127.5 + 127.5 * weights / largest).astype(np.uint8)
    return pictures.reshape(len(weights), *model.input_shape[1:])
