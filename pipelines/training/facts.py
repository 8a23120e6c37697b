"""What the losses know of the rows before the first step: known positives, and how often items are drawn.

The loss that decides on the best epoch is corrected as the trained one is, by how often the validation rows' own items
are drawn; uncorrected, it would prefer the epochs that have learned least of what is popular. Scores never are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.config import LossOptions, TrainingOptions
from pipelines.losses.frequencies import Frequencies, frequencies_of
from pipelines.losses.known import KnownPositives, known_positives

COLUMNS = ("user_key", "item_key", "label")


@dataclass(frozen=True)
class Facts:
    """Constants of a training run; None where the options ask for none."""

    known: KnownPositives | None = None
    """Of the training rows, for training alone."""
    frequencies: Frequencies | None = None
    """Of the training rows and the catalogue."""
    held_out: Frequencies | None = None
    """Of the validation rows."""


def facts_of(
    rows: Mapping[str, NDArray[Any]],
    options: TrainingOptions,
    catalogue: NDArray[np.int64] | None = None,
    held_out: NDArray[np.int64] | None = None,
) -> Facts:
    """Those of rows with COLUMNS, each (rows,), and of the item keys of the catalogue's and of the validation rows."""
    losses = options.losses
    positive = rows["label"] > 0.5
    known = None
    if losses.mask_known and positive.any():
        known = known_positives(rows["user_key"][positive], rows["item_key"][positive])
    most = options.batch_size // 2 if losses.in_batch == "mined" else options.batch_size - 1
    drawn = min(losses.num_negatives, most) if losses.in_batch == "mined" else most

    def corrected(*sources: tuple[NDArray[np.int64] | None, int]) -> Frequencies | None:
        there = [(keys, draws) for keys, draws in sources if keys is not None and len(keys)]
        return frequencies_of(there) if losses.log_q and there else None

    return Facts(
        known,
        corrected((rows["item_key"], drawn), (catalogue, losses.catalogue_negatives)),
        corrected((held_out, drawn)),
    )


def needs_facts(losses: LossOptions) -> bool:
    """Whether a loss draws negatives that are masked or corrected."""
    return (losses.softmax > 0 or losses.support_vector > 0) and (losses.mask_known or losses.log_q)
