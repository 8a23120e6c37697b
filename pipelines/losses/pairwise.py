"""Pairwise rank loss (RankNet, Burges et al., ICML 2005): of two rows the one with the higher label scores higher.

Within a user it orders what the user was shown; across the batch it optimises the AUC over all rows, and learns also
which users like much.
"""

from typing import Any

from keras import ops

from pipelines.config import LossOptions
from pipelines.losses.batch import Batch, weighted_mean

BLOCK = 32
"""Rows are compared with those of their own block and of the next, so that memory grows with n and not with n². Every
pair of a user with up to BLOCK + 1 rows in the batch is compared; of more rows, those that lie close in the batch."""


def pairwise(batch: Batch, options: LossOptions, seed: Any) -> Any:
    """Sigmoid cross-entropy of the difference of scores over pairs with different labels, the weighted mean over pairs.

    A pair weighs the product of its rows' weights. The difference is scale·(cosine - cosine' - margin) / temperature.
    Without a pair it is 0.
    """
    columns = (batch.cosine, batch.label, batch.weight, batch.user_key)
    if options.pairs == "user":
        order = ops.argsort(batch.user_key)
        columns = tuple(ops.take(values, order, axis=0) for values in columns)
    (cosine, label, weight, user), (cosine2, label2, weight2, user2) = zip(*map(_beside, columns), strict=True)
    # Each pair once: the second row lies behind the first.
    behind = ops.arange(2 * BLOCK) > ops.expand_dims(ops.arange(BLOCK), 1)
    counts = ops.logical_and(behind, ops.equal(user, user2)) if options.pairs == "user" else behind
    sign = ops.sign(label - label2)
    logit = (sign * (cosine - cosine2) - options.margin) * batch.scale / options.temperature
    return weighted_mean(ops.softplus(-logit), weight * weight2 * ops.abs(sign) * ops.cast(counts, weight.dtype))


def _beside(values: Any) -> tuple[Any, Any]:
    """(n,) -> (blocks, BLOCK, 1) and (blocks, 1, 2·BLOCK): rows, and those of their block and of the next."""
    rows = ops.shape(values)[0]
    blocks = (rows + BLOCK - 1) // BLOCK
    # Padding weighs nothing.
    padding = ops.zeros(((blocks + 1) * BLOCK - rows,), values.dtype)
    each = ops.reshape(ops.concatenate([values, padding]), (blocks + 1, BLOCK))
    return ops.expand_dims(each[:-1], 2), ops.expand_dims(ops.concatenate([each[:-1], each[1:]], axis=1), 1)
