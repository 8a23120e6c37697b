"""Published datasets as the Arrow tables that evaluation works on, no more of them in memory than it takes."""

import posixpath
from collections.abc import Mapping
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from pipelines.evaluation.ranking import Catalogue
from pipelines.evaluation.timeline import column
from pipelines.storage import Dataset


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
