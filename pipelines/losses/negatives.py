"""The items that a positive is set against: of the batch and of the catalogue, masked and corrected.

A mined item carries the features that it had at its own row's time, not at the positive's.
"""

from dataclasses import dataclass
from typing import Any

from keras import ops

from pipelines.config import LossOptions
from pipelines.losses.batch import Batch, Catalogue, weighted_mean
from pipelines.losses.in_batch import in_batch
from pipelines.losses.known import KnownPositives, positives_of

MASKED = -1e30
"""Far below any logit, yet finite: an infinity would make the gradient of a fully masked row NaN."""


@dataclass(frozen=True)
class Negatives:
    """k items for each of n rows."""

    cosine: Any
    """(n, k) of the row's user and each item."""
    masked: Any
    """(n, k) True where the item is the row's own, a known positive of its user, or was not there yet."""
    log_q: Any = None
    """(n, k), or (1, k) where all rows have the same items: the logarithm of how often each is drawn."""


def negatives(batch: Batch, options: LossOptions, seed: Any) -> Negatives:
    """`num_negatives` items of other rows, or those of all rows, and with a catalogue its m items."""
    met = in_batch(ops.shape(batch.label)[0], options, seed)
    known = batch.known or positives_of(batch.user_key, batch.item_key, batch.positive)
    items = met.of_items(batch.item_key)
    whole = options.in_batch == "all"
    masked = known.between(batch.user_key, batch.item_key) if whole else _known(batch, known, items)
    found = Negatives(
        met.dots(batch.user, batch.item),
        ops.logical_or(masked, _own(batch, items)),
        None if batch.frequencies is None else met.of_items(batch.frequencies.log_q(batch.item_key)),
    )
    return found if batch.catalogue is None else _joined(found, _of_catalogue(batch, batch.catalogue, known))


def _of_catalogue(batch: Batch, drawn: Catalogue, known: KnownPositives) -> Negatives:
    items = ops.expand_dims(drawn.item_key, 0)
    later = ops.expand_dims(drawn.exists_from, 0) > ops.expand_dims(batch.time, 1)
    return Negatives(
        ops.matmul(batch.user, ops.transpose(drawn.item)),
        ops.logical_or(later, ops.logical_or(_known(batch, known, items), _own(batch, items))),
        None if batch.frequencies is None else batch.frequencies.log_q(items),
    )


def _known(batch: Batch, known: KnownPositives, items: Any) -> Any:
    """(n, k) known positives among items (n or 1, k)."""
    # Only rows of positives matter; the others ask for one and the same pair, which is found quickly.
    positive = ops.cast(ops.expand_dims(batch.positive, 1), batch.user_key.dtype)
    return known.among(ops.expand_dims(batch.user_key, 1) * positive, items * positive)


def _own(batch: Batch, items: Any) -> Any:
    """(n, k) where an item is the row's own."""
    return ops.equal(ops.expand_dims(batch.item_key, 1), items)


def _joined(first: Negatives, second: Negatives) -> Negatives:
    log_q = None
    if first.log_q is not None:
        log_q = ops.concatenate([ops.broadcast_to(n.log_q, ops.shape(n.cosine)) for n in (first, second)], axis=1)
    return Negatives(
        ops.concatenate([first.cosine, second.cosine], axis=1),
        ops.concatenate([first.masked, second.masked], axis=1),
        log_q,
    )


def softmax_entropy(batch: Batch, options: LossOptions, positive: Any, negative: Any, found: Negatives) -> Any:
    """Cross-entropy of the positive among itself and its negatives, the weighted mean over positive rows.

    `positive` (n,) and `negative` (n, k) are cosines, as the loss made them. Logits are scale·cosine / temperature; a
    negative's is less the logarithm of how often it is drawn, where the batch says so. Without a positive it is 0.
    """
    sharpness = batch.scale / options.temperature
    own, others = sharpness * positive, sharpness * negative
    if found.log_q is not None:
        others = others - found.log_q
    logits = ops.concatenate([ops.expand_dims(own, 1), ops.where(found.masked, MASKED, others)], axis=1)
    entropy = ops.logsumexp(logits, axis=1) - logits[:, 0]
    return weighted_mean(entropy, batch.weight * ops.cast(batch.positive, batch.weight.dtype))
