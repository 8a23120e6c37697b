"""A batch as the losses see it, and the weighted mean that they share. Written with `keras.ops` alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops

from pipelines.config import LossOptions


@dataclass(frozen=True)
class Batch:
    """n scored rows. Floats are float32, keys int64."""

    user: Any
    """(n, d) vectors of length 1."""
    item: Any
    """(n, d), likewise."""
    scale: Any
    """Scalar: score = scale·cosine + bias."""
    bias: Any
    label: Any
    """(n,) 1 positive, 0 negative."""
    weight: Any
    """(n,) sample weights."""
    user_key: Any
    """(n,) equal for rows of one user; never a model input."""
    item_key: Any

    @property
    def cosine(self) -> Any:
        """(n,) of each row's user and item."""
        return ops.sum(self.user * self.item, axis=-1)


Loss = Callable[[Batch, LossOptions, Any], Any]
"""(batch, options, seed: an int or a keras SeedGenerator) -> scalar."""


def weighted_mean(values: Any, weights: Any) -> Any:
    """Sum of weight·value over the sum of weights; 0 where all weights are 0."""
    total = ops.sum(weights)
    return ops.sum(values * weights) / ops.where(total > 0, total, 1.0)
