"""Published datasets as the Arrow tables that evaluation works on, no more of them in memory than it takes."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from pipelines.config import LabelOptions
from pipelines.errors import CorruptDatasetError
from pipelines.evaluation.ranking import Catalogue
from pipelines.evaluation.timeline import History, column
from pipelines.retrieval.seen import positive_rows
from pipelines.storage import Dataset
from schemas.interactions import INTERACTIONS


@dataclass(frozen=True)
class Measurable:
    """What rankers are measured on: splits by name, when items began to exist, candidates, and what was known when."""

    splits: dict[str, pa.Table]
    exists: pa.Table
    catalogue: Catalogue
    history: History


def read_measurable(examples: Dataset, clean: Dataset, labels: LabelOptions, splits: Sequence[str]) -> Measurable:
    """Read what evaluating these splits takes. Raises CorruptDatasetError where clocks disagree on their delay."""
    tables = {split: read_split(examples, split) for split in splits}
    exists = examples.read_table("exists")
    positives = positive_rows(clean.read_table("interactions", INTERACTIONS.names), labels)
    everything = [positives, *tables.values()]
    history = History.of(
        positives,
        pc.unique(pa.chunked_array([c for t in everything for c in t["user_id"].chunks], pa.string())),
        pc.unique(pa.chunked_array([c for t in [*everything, exists] for c in t["item_id"].chunks], pa.string())),
        clock_delay(pa.concat_tables([table.select(["known_by", "as_of"]) for table in tables.values()])),
    )
    return Measurable(tables, exists, read_catalogue(examples), history)


def clock_delay(examples: pa.Table) -> int:
    """known_by - as_of: one configured delay for all clocks, in microseconds.

    Raises CorruptDatasetError where examples disagree on it.
    """
    delays = pc.unique(pc.subtract(examples["known_by"], examples["as_of"])).to_pylist()
    if len(delays) > 1:
        raise CorruptDatasetError(
            f"known_by must be as_of plus one delay everywhere, got {sorted(delays)[:5]} us; run `thaw build_examples`"
        )
    return int(delays[0]) if delays else 0


def read_split(examples: Dataset, split: str) -> pa.Table:
    """One split of the examples, in order of (event_time, example_id)."""
    table = _select(examples, "examples", pc.field("split") == split)
    return table.sort_by([("event_time", "ascending"), ("example_id", "ascending")])


def read_catalogue(examples: Dataset) -> Catalogue:
    """The candidates, one clock in memory at a time."""
    clocks = np.unique(column(examples.read_table("candidates", ["as_of"]), "as_of"))
    return Catalogue(clocks, lambda clock: _select(examples, "candidates", pc.field("as_of") == clock))


def read_truth(folder: str, paths: Mapping[Any, str]) -> tuple[pa.Table, pa.Table] | None:
    """The planted vectors of users and items, or None where the data came without them."""
    fs, root = fsspec.core.url_to_fs(folder)
    found = [posixpath.join(root, paths[side]) for side in ("users", "items") if side in paths]
    if len(found) < 2 or not all(fs.exists(path) for path in found):
        return None
    users, items = (pq.read_table(path, filesystem=fs).rename_columns(["id", "vector"]) for path in found)
    return users, items


def _select(dataset: Dataset, table: str, condition: Any) -> pa.Table:
    paths = dataset.table_paths(table)
    if not paths:
        return dataset.read_table(table)
    fs, _ = fsspec.core.url_to_fs(dataset.path)
    return pads.dataset(paths, filesystem=fs, format="parquet").to_table(filter=condition)
