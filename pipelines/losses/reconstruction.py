"""Reconstruction loss: the original objective of DropoutNet (Volkovs, Yu and Poutanen, NIPS 2017, equation 2).

The towers, with part of their inputs dropped, are to score as a reference model does that knew both sides.
"""

from typing import Any

from keras import ops

from pipelines.config import LossOptions
from pipelines.errors import ConfigError
from pipelines.losses.batch import Batch, weighted_mean
from pipelines.losses.in_batch import in_batch


def reconstruction(batch: Batch, options: LossOptions, seed: Any) -> Any:
    """Squared error of score and reference score, the weighted mean over pairs.

    Pairs are the rows themselves and, where both sides' factors are there, each row's user with its negatives' items:
    the paper samples many items a user. A pair weighs what its row does; one whose reference score is not finite weighs
    nothing. The score is the served one, scale·(dot product) + bias: reference scores lie on a scale of their own,
    which a bare cosine could not reach; of towers that do not normalise, it is the paper's product with an affine map.
    Raises ConfigError where the batch has neither scores nor factors of a reference model.
    """
    own = batch.target
    if batch.user_factor is None or batch.item_factor is None:
        if own is None:
            raise ConfigError(
                "the reconstruction loss must have a reference model's scores or factors in its rows, got neither; "
                "set training.losses.reconstruction to 0, or give `target`, or `user_factor` and `item_factor`"
            )
        return _squared_error(batch.scale * batch.cosine + batch.bias, own, batch.weight)
    met = in_batch(ops.shape(batch.label)[0], options, seed)
    if own is None:
        own = ops.sum(batch.user_factor * batch.item_factor, axis=-1)
    cosine = ops.concatenate([ops.expand_dims(batch.cosine, 1), met.dots(batch.user, batch.item)], axis=1)
    # Of a factor that is missing, no product may reach another row's: in a matrix product NaN stays within its pair.
    target = ops.concatenate([ops.expand_dims(own, 1), met.dots(batch.user_factor, batch.item_factor)], axis=1)
    return _squared_error(batch.scale * cosine + batch.bias, target, ops.expand_dims(batch.weight, 1))


def _squared_error(score: Any, target: Any, weight: Any) -> Any:
    there = ops.isfinite(target)
    error = ops.where(there, score - ops.where(there, target, 0.0), 0.0)
    return weighted_mean(ops.square(error), weight * ops.cast(there, weight.dtype))
