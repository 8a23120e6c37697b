"""How often inputs are dropped: a share that may change from epoch to epoch, and inputs dropped one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from pipelines.models.rows import uniform_rows
from schemas.fitted import InputSpec


class DropoutShare(keras.layers.Layer):  # type: ignore[misc]
    """A probability, constant or linear from the first epoch to the last.

    One that changes is a variable that is not trained: a compiled step reads its value of the moment, on any backend.
    """

    def __init__(self, first: float, last: float | None, *, name: str) -> None:
        super().__init__(name=name)
        self.first = first
        self.last = first if last is None else last
        self.share: Any = None
        if self.first != self.last:
            start = keras.initializers.Constant(first)
            self.share = self.add_weight(shape=(), initializer=start, trainable=False, name="share")

    @property
    def value(self) -> Any:
        """The share of the moment."""
        return self.first if self.share is None else self.share

    @property
    def is_used(self) -> bool:
        """Whether anything is ever dropped."""
        return self.first > 0 or self.last > 0

    @property
    def is_total(self) -> bool:
        """Whether all is dropped, always: layers behind it are never trained."""
        return self.first == self.last == 1

    def at(self, progress: float) -> None:
        """Set it for an epoch: 0 the first, 1 the last."""
        if self.share is not None:
            self.share.assign(self.first + (self.last - self.first) * progress)


def drop_fields(inputs: Mapping[str, Any], specs: Sequence[InputSpec], share: float, seed: Any) -> dict[str, Any]:
    """Each field missing with probability `share`: a bag or vector as a whole, statistics one by one."""
    dropped = dict(inputs)
    for spec in specs:
        values = inputs[spec.name]
        each = spec.length if len(spec.columns) > 1 else 1
        missing = uniform_rows(ops.shape(values)[0], each, seed) < share
        nothing = ops.zeros_like(values) if spec.kind == "ids" else ops.full_like(values, np.nan)
        dropped[spec.name] = ops.where(missing, nothing, values)
    return dropped
