"""How often each item is drawn as a negative, for the logQ correction.

Drawn from the batch, an item comes as often as it has rows, and the loss pushes down what is popular. Subtracting the
logarithm of the expected number of draws from a negative's logit makes the sum over negatives an unbiased estimate of
the sum over the catalogue (Bengio and Senécal 2008; Yi et al., RecSys 2019). The positive is no draw and is left alone
(Khrylchenko et al., Correcting the LogQ Correction, RecSys 2025): an item with few rows learns as much from each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipelines.losses.keys import found_at, narrowed


@dataclass(frozen=True)
class Frequencies:
    """Items that can be drawn, with how often each is expected among the negatives of one positive."""

    items: Any
    """(i,) item keys, ascending."""
    log_count: Any
    """(i,) float32: its logarithm."""

    def log_q(self, item_key: Any) -> Any:
        """Of keys of any shape, which are those of items that can be drawn."""
        return ops.take(self.log_count, found_at(self.items, item_key)[0], axis=0)


def frequencies_of(sources: Sequence[tuple[NDArray[np.int64], int]]) -> Frequencies:
    """Of a mixture: each source is the item keys of the rows that are drawn from uniformly, and how many are drawn.

    n from the rows and m from the catalogue give n·(share of rows) + m·(share of the catalogue): mixed negative
    sampling (Yang et al., WWW 2020). A source without draws counts for nothing; one has to be left, and each has rows.
    """
    used = [(narrowed(keys), draws) for keys, draws in sources if draws]
    items, place = np.unique(np.concatenate([keys for keys, _ in used]), return_inverse=True)
    each = np.concatenate([np.full(len(keys), draws / len(keys)) for keys, draws in used])
    counts = np.log(np.bincount(place, each)).astype("float32")
    return Frequencies(ops.convert_to_tensor(items), ops.convert_to_tensor(counts))
