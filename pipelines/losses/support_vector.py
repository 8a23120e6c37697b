"""Support-vector-guided softmax (Wang et al. 2018, arXiv 1812.11317): hard negatives are enlarged.

Which items those are is left to `negatives`.
"""

from typing import Any

from keras import ops

from pipelines.config import LossOptions
from pipelines.losses.batch import Batch
from pipelines.losses.negatives import negatives, softmax_entropy


def support_vector(batch: Batch, options: LossOptions, seed: Any) -> Any:
    """The softmax loss with the margin taken off the positive, and hard negatives made harder.

    A negative whose cosine s exceeds (positive - margin) becomes t·s + t - 1, with t = `hardness`; both before scale
    and temperature (section 3). With hardness 1 it is the additive margin softmax, with margin 0 as well `softmax`.
    """
    found = negatives(batch, options, seed)
    positive, hardness = batch.cosine - options.margin, options.hardness
    hard = found.cosine > ops.expand_dims(positive, 1)
    negative = ops.where(hard, hardness * found.cosine + hardness - 1, found.cosine)
    return softmax_entropy(batch, options, positive, negative, found)
