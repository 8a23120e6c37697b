"""Softmax loss with negatives mined from the batch: the positive item against items of other rows.

The end-to-end form of DropoutNet. It stands for sampling from the catalogue only because records are shuffled globally;
a mined item carries the features that it had at its own row's time, not at the positive's.
"""

from typing import Any

from keras import ops
from keras import random as keras_random

from pipelines.config import LossOptions
from pipelines.losses.batch import Batch, weighted_mean

_MASKED = -1e9
"""Far below any logit, yet finite: an infinity would make the gradient of a fully masked row NaN."""


def softmax_mined(batch: Batch, options: LossOptions, seed: Any) -> Any:
    """Cross-entropy of the positive among itself and `num_negatives` mined items, the weighted mean over positive rows.

    Negative j of row i is the item of row (i + shift_j) mod n; the shifts are distinct, so no row is drawn twice. A
    mined item that the same user has a positive with in this batch, the row's own included, is masked out. Logits are
    scale·cosine / temperature. A batch without a positive gives 0.
    """
    rows = ops.shape(batch.label)[0]
    positions = ops.arange(rows, dtype="int32")
    # A batch too small for so many is filled up with shift 0: the row's own positive, which is masked.
    none = ops.zeros((options.num_negatives,), "int32")
    shifts = ops.concatenate([keras_random.shuffle(positions[1:], seed=seed), none])[: options.num_negatives]
    mined = (ops.expand_dims(positions, 1) + ops.expand_dims(shifts, 0)) % rows
    negative = ops.stack([_cosines(batch, shifts[place]) for place in range(options.num_negatives)], axis=1)
    sharpness = batch.scale / options.temperature
    logits = ops.concatenate(
        [
            ops.expand_dims(sharpness * batch.cosine, 1),
            ops.where(_known_positive(batch, mined), _MASKED, sharpness * negative),
        ],
        axis=1,
    )
    entropy = ops.logsumexp(logits, axis=1) - logits[:, 0]
    return weighted_mean(entropy, batch.weight * ops.cast(batch.label > 0.5, batch.weight.dtype))


def _cosines(batch: Batch, shift: Any) -> Any:
    """(n,) of each row's user and the item `shift` rows on.

    A slice of the doubled batch: the gradient of gathered rows would be a scatter, ten times as slow.
    """
    twice = ops.concatenate([batch.item, batch.item], axis=0)
    return ops.sum(batch.user * ops.slice(twice, (shift, 0), ops.shape(batch.item)), axis=-1)


def _known_positive(batch: Batch, mined: Any) -> Any:
    """(n, k) True where the batch has a positive of row i's user with mined item (i, j).

    Keys become ranks within the batch, so that a pair is one exact integer and the look-up is a binary search.
    """
    rows = ops.cast(ops.shape(batch.label)[0], "int64")
    user, item = _rank(batch.user_key), _rank(batch.item_key)
    positives = ops.sort(ops.where(batch.label > 0.5, user * rows + item, rows * rows))
    wanted = ops.expand_dims(user * rows, 1) + ops.take(item, mined, axis=0)
    flat = ops.reshape(wanted, (-1,))
    place = ops.minimum(ops.cast(ops.searchsorted(positives, flat), "int64"), rows - 1)
    return ops.reshape(ops.equal(ops.take(positives, place, axis=0), flat), ops.shape(wanted))


def _rank(keys: Any) -> Any:
    """(n,) small integers, equal where keys are equal."""
    return ops.cast(ops.searchsorted(ops.sort(keys), keys), "int64")
