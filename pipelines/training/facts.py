"""What the losses know of the training rows before the first step: known positives, and how often items are drawn.

Of training alone: validation is measured without, so that its loss means the same whatever training corrects.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pipelines.config import LossOptions, TrainingOptions
from pipelines.losses.frequencies import Frequencies, frequencies_of
from pipelines.losses.known import KnownPositives, known_positives
from pipelines.records.reader import read_split
from pipelines.storage import Dataset

COLUMNS = ("user_key", "item_key", "label")


@dataclass(frozen=True)
class Facts:
    """Constants of a training run; None where the options ask for none."""

    known: KnownPositives | None = None
    frequencies: Frequencies | None = None


def read_facts(records: Dataset, options: TrainingOptions) -> Facts:
    """Those of a dataset's training rows, a shard in memory at a time."""
    if not needs_facts(options.losses):
        return Facts()
    return facts_of(read_split(records, "train", COLUMNS), options)


def facts_of(rows: Mapping[str, NDArray[Any]], options: TrainingOptions) -> Facts:
    """Those of rows with COLUMNS, each (rows,)."""
    losses = options.losses
    positive = rows["label"] > 0.5
    known = frequencies = None
    if losses.mask_known and positive.any():
        known = known_positives(rows["user_key"][positive], rows["item_key"][positive])
    if losses.log_q and len(positive):
        most = options.batch_size // 2 if losses.in_batch == "mined" else options.batch_size - 1
        drawn = min(losses.num_negatives, most) if losses.in_batch == "mined" else most
        frequencies = frequencies_of([(rows["item_key"], drawn)])
    return Facts(known, frequencies)


def needs_facts(losses: LossOptions) -> bool:
    """Whether a loss draws negatives that are masked or corrected."""
    return (losses.softmax > 0 or losses.support_vector > 0) and (losses.mask_known or losses.log_q)
