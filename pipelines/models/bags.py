"""Pooling of a bag's embeddings other than their plain mean. Written with `keras.ops` alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from pipelines.models.blocks import BagMean


class Bag(BagMean):
    """A row's ids as one vector: the mean, largest or sum of their embeddings; a learned vector for a row of zeros.

    `weights` (rows of the table, padding left out) say how much each id counts: with inverse document frequencies the
    mean is that of tf-idf, an id that occurs twice being there twice.
    """

    def __init__(self, table: Any, pooling: str, weights: Sequence[float] | None, *, name: str) -> None:
        super().__init__(table, name=name)
        self.pooling = pooling
        self.weights_of_ids = None if weights is None else np.array([0.0, *weights], "float32")

    def call(self, ids: Any) -> Any:
        """(n, length) ids, 0 for padding -> (n, width)."""
        known = ops.cast(ops.not_equal(ids, 0), self.compute_dtype)
        weight = known
        if self.weights_of_ids is not None:
            weight = ops.take(ops.convert_to_tensor(self.weights_of_ids), ids, axis=0)
        each = self.table.each(ids) * ops.expand_dims(weight, 2)
        if self.pooling == "max":
            pooled = ops.max(ops.where(ops.expand_dims(known, 2) > 0, each, -1e9), axis=1)
        else:
            pooled = ops.sum(each, axis=1)
        if self.pooling == "mean":
            pooled = pooled / ops.maximum(ops.sum(weight, axis=1, keepdims=True), 1e-6)
        return ops.where(ops.any(known > 0, axis=1, keepdims=True), pooled, ops.convert_to_tensor(self.missing))
