"""Vectors whose numbers are about 1: an encoder with what it learned from taken for the measure. [keras]

Towers read vectors as they are. Activations of a network may be of any size, and large ones drown all other content.
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

SAMPLE = 4096
"""Images that mean and deviation are taken from."""
_BATCH = 256


def standardised(encoder: Any, images: npt.NDArray[np.uint8]) -> Any:
    """The encoder (n, h, w, c) -> (n, d), less the mean of the vectors of `images`, divided by their deviation.

    A number that is the same for all of them is not divided: it may be another for other images.
    """
    vectors = np.asarray(encoder.predict(images, batch_size=_BATCH, verbose=0), np.float64)
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
    deviation[deviation == 0] = 1.0
    layer = keras.layers.Normalization(axis=-1, name="standardised")
    # Two vectors whose mean and deviation are those that are wanted.
    layer.adapt(np.stack([mean - deviation, mean + deviation]).astype("float32"))
    # Named, because Keras numbers those without a name through the process: equal encoders are to be equal files.
    return keras.Model(encoder.input, layer(encoder.output), name="encoder")
