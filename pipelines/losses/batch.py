"""A batch as the losses see it, and the means that they share. Written with `keras.ops` alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops

from pipelines.config import LossOptions
from pipelines.losses.frequencies import Frequencies
from pipelines.losses.known import KnownPositives


@dataclass(frozen=True)
class Catalogue:
    """m items drawn uniformly from the catalogue, which every row of the batch is set against."""

    item: Any
    """(m, d) vectors, as `Batch.item`."""
    item_key: Any
    """(m,)"""
    exists_from: Any
    """(m,) in the unit of `Batch.time`: a row of an earlier time is not set against the item."""


@dataclass(frozen=True)
class Batch:
    """n scored rows. Floats are float32, keys int64 (int32 on JAX, which keeps their lower halves).

    What has a default is for training alone, or for some of the losses.
    """

    user: Any
    """(n, d) vectors, of length 1 where the model says so."""
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
    time: Any = None
    """(n,) when each row happened; needed with a catalogue."""
    target: Any = None
    """(n,) the reference model's score of each row; NaN where it has none."""
    user_factor: Any = None
    """(n, f) the reference model's vector of each row's user; NaN where it has none."""
    item_factor: Any = None
    """(n, f), likewise."""
    catalogue: Catalogue | None = None
    known: KnownPositives | None = None
    """Positives of the training rows; absent: those of the batch."""
    frequencies: Frequencies | None = None
    """How often each item is drawn as a negative; absent: no logQ correction."""

    @property
    def cosine(self) -> Any:
        """(n,) of each row's user and item."""
        return ops.sum(self.user * self.item, axis=-1)

    @property
    def positive(self) -> Any:
        """(n,) bool."""
        return self.label > 0.5


Loss = Callable[[Batch, LossOptions, Any], Any]
"""(batch, options, seed: an int or a keras SeedGenerator) -> scalar."""


def weighted_mean(values: Any, weights: Any) -> Any:
    """Sum of weight·value over the sum of weights; 0 where all weights are 0."""
    total = ops.sum(weights)
    return ops.sum(values * weights) / ops.where(total > 0, total, 1.0)
