"""The facts of a training run, read from records. Apart from `facts`, which needs arrays alone."""

from pipelines.config import TrainingOptions
from pipelines.records.reader import read_split
from pipelines.storage import Dataset
from pipelines.training.facts import COLUMNS, Facts, facts_of, needs_facts
from schemas.records import CATALOGUE


def read_facts(records: Dataset, options: TrainingOptions) -> Facts:
    """Those of a dataset's training rows, a shard in memory at a time."""
    if not needs_facts(options.losses):
        return Facts()
    mixed = options.losses.log_q and options.losses.catalogue_negatives
    catalogue = read_split(records, CATALOGUE, ["item_key"])["item_key"] if mixed else None
    held_out = read_split(records, "validation", ["item_key"])["item_key"] if options.losses.log_q else None
    return facts_of(read_split(records, "train", COLUMNS), options, catalogue, held_out)
