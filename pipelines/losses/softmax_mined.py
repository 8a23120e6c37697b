"""Softmax loss with mined negatives: the positive item against items of other rows, and of the catalogue.

The end-to-end form of DropoutNet. Which items those are is left to `negatives`.
"""

from typing import Any

from pipelines.config import LossOptions
from pipelines.losses.batch import Batch
from pipelines.losses.negatives import negatives, softmax_entropy


def softmax_mined(batch: Batch, options: LossOptions, seed: Any) -> Any:
    """Cross-entropy of the positive among itself and its negatives, the weighted mean over positive rows."""
    found = negatives(batch, options, seed)
    return softmax_entropy(batch, options, batch.cosine, found.cosine, found)
