"""Pointwise loss: is this item, shown to this user, a positive? It makes scores probabilities."""

from typing import Any

from keras import ops

from pipelines.config import LossOptions
from pipelines.losses.batch import Batch, weighted_mean


def pointwise(batch: Batch, options: LossOptions, seed: Any) -> Any:
    """Sigmoid cross-entropy of score and label, the weighted mean over rows.

    In the stable form max(s, 0) - s·y + log(1 + exp(-|s|)).
    """
    score = batch.scale * batch.cosine + batch.bias
    entropy = ops.maximum(score, 0.0) - score * batch.label + ops.log1p(ops.exp(-ops.abs(score)))
    return weighted_mean(entropy, batch.weight)
