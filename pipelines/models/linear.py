"""The linear classifier and the net of two layers, and what they read: scaled pixels, or content of any kind.

Scores are W·x + b. The bias is a weight like another, of an input that is always 1: x with a 1 appended and W with b as
one more column (10 × 3072 becomes 10 × 3073 for CIFAR-10) give the same scores. It is kept apart here, because what
shrinks weights must leave it alone.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from pipelines.config import ClassifierOptions
from pipelines.errors import ConfigError
from pipelines.models.blocks import derived_seed
from schemas.fitted import InputSpec

HALF_RANGE = 127.5
"""Half of what 8 bits tell apart."""


def linear(x: Any, options: ClassifierOptions, *, seed: int) -> Any:
    """Any shape -> (n, d): the input itself, flat. The last layer makes the classifier linear."""
    return keras.layers.Flatten(name="flat")(x)


def two_layer(x: Any, options: ClassifierOptions, *, seed: int) -> Any:
    """Any shape -> (n, hidden): one hidden layer with ReLU."""
    start = keras.initializers.HeNormal(derived_seed(seed, "hidden"))
    dense = keras.layers.Dense(options.hidden, activation="relu", kernel_initializer=start, name="hidden")
    return dense(keras.layers.Flatten(name="flat")(x))


def pixels_scaled(pixels: Any, mean: Any = None) -> Any:
    """(n, h, w, channels) from 0 to 255 -> about [-1, 1]: less the mean image (h, w, channels), divided by 127.5.

    Without a mean, less 127.5. The model scales, so that what it is served with is what it was trained with. Raises
    ConfigError where the mean has another shape.
    """
    if mean is None:
        return keras.layers.Rescaling(1 / HALF_RANGE, offset=-1.0, name="scaled")(pixels)
    mean = np.asarray(mean, "float32")
    if mean.shape != tuple(pixels.shape[1:]):
        raise ConfigError(
            f"the mean image must have the shape of an image, {tuple(pixels.shape[1:])}, got {mean.shape}; "
            "average the training images over the first axis"
        )
    centred = keras.layers.Normalization(axis=(1, 2, 3), name="scaled")
    # Two images whose mean and deviation are those that are wanted.
    centred.adapt(np.stack([mean - HALF_RANGE, mean + HALF_RANGE]))
    return centred(pixels)


def content_vector(specs: Sequence[InputSpec], embedding_dim: int, *, seed: int) -> tuple[dict[str, Any], Any]:
    """Inputs by name, and one vector of them all: numbers beside a mask of missing ones, means of embeddings.

    The mean of the embeddings of a text's words and a linear layer are fastText's classifier (Joulin et al. 2017).
    Raises ConfigError where there is nothing to read.
    """
    if not specs:
        raise ConfigError("a classifier must have an input, got no content columns; add some to source.items")
    inputs, parts, tables = {}, [], {}
    for spec in specs:
        if spec.kind == "floats":
            inputs[spec.name] = given = keras.Input((spec.length,), name=spec.name)
            known = ops.isfinite(given)
            parts += [ops.where(known, given, 0.0), ops.cast(ops.logical_not(known), "float32")]
            continue
        inputs[spec.name] = given = keras.Input((spec.length,), dtype="int64", name=spec.name)
        if spec.table not in tables:
            start = keras.initializers.RandomNormal(stddev=embedding_dim**-0.5, seed=derived_seed(seed, spec.table))
            tables[spec.table] = keras.layers.Embedding(spec.table_size, embedding_dim, start, name=spec.table)
        known = ops.expand_dims(ops.cast(ops.not_equal(given, 0), "float32"), 2)
        total = ops.sum(tables[spec.table](given) * known, axis=1)
        parts.append(total / ops.maximum(ops.sum(known, axis=1), 1.0))
    return inputs, ops.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
