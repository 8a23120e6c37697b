"""The clicks of `_clicks` as records on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks._clicks import ROWS, SEED, columns_of, specs
from pipelines.records.shard_file import shard_name, write_shard
from pipelines.records.wire import encode
from pipelines.storage import Dataset
from schemas.manifest import Manifest, TableEntry
from schemas.records import record_columns

SHARDS, START_US = 8, 1_700_000_000_000_000


def write_clicks(clicks: dict[str, Any], folder: str, splits: dict[str, slice]) -> Dataset:
    """Records of some rows as splits, by the project's own encoder, without Spark. Rows are drawn independently, so
    their order is as good as a shuffled one."""
    columns, tables = record_columns(specs()), {}
    for split, whole in splits.items():
        shards = []
        for number, rows in enumerate(np.array_split(np.arange(ROWS)[whole], SHARDS)):
            chosen = slice(rows[0], rows[-1] + 1)
            values = columns_of(clicks, chosen)
            ids = np.char.mod("%032x", rows).astype("S32")
            data, offsets = encode({**values, "example_id": ids, "event_time": START_US + rows}, columns)
            record = pa.Array.from_buffers(
                pa.binary(), len(rows), [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
            )
            batch = pa.record_batch(
                {
                    "example_id": ids.astype(str),
                    "event_time": START_US + rows,
                    "label": values["label"],
                    "record": record,
                }
            )
            name = shard_name(split, number, "")
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            shards.append(write_shard([batch], folder, name, (START_US, START_US + ROWS)).shard)
        tables[split] = TableEntry(format="tfrecord", columns=columns, shards=tuple(shards))
    return Dataset(folder, Manifest(dataset="records", tables=tables, seed=SEED))
