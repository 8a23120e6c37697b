"""Cross-entropy of classes, with label smoothing: scores as log odds."""

from typing import Any

import keras
from keras import ops


def cross_entropy(scores: Any, labels: Any, *, label_smoothing: float = 0.0) -> Any:
    """(n, C) scores and (n,) class numbers -> (n,), -log of the label's share in the softmax of the scores.

    Smoothing gives each label's class 1 - ε + ε/C and each other class ε/C (Szegedy et al., CVPR 2016, section 7): it
    then pays to win by a margin, and no more. Where all scores are equal the loss is ln C.
    """
    # The largest score is taken off first, so that no exponential overflows.
    logarithms = keras.activations.log_softmax(scores, axis=-1)
    own = ops.squeeze(ops.take_along_axis(logarithms, _column(labels), axis=1), 1)
    return -(1 - label_smoothing) * own - label_smoothing * ops.mean(logarithms, axis=1)


def _column(labels: Any) -> Any:
    return ops.expand_dims(ops.cast(labels, "int32"), 1)
