"""Published records to arrays, without TensorFlow. Every file is checked against the manifest, every record by CRC."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import CorruptDatasetError
from pipelines.records.wire import decode
from pipelines.storage import Dataset
from schemas.manifest import Shard

Arrays = dict[str, NDArray[Any]]


def read_split(records: Dataset, split: str) -> Arrays:
    """Every column of a split, shards in order: scalars (rows,), lists (rows, length), strings of dtype S.

    Raises CorruptDatasetError where a shard is missing, short or altered.
    """
    rows_of_all = sum(shard.rows for _, shard in _shards(records, split))
    whole: Arrays = {}
    start = 0
    for arrays in read_shards(records, split):
        rows = len(next(iter(arrays.values())))
        for name, values in arrays.items():
            if name not in whole:
                whole[name] = np.empty((rows_of_all, *values.shape[1:]), values.dtype)
            whole[name][start : start + rows] = values
        start += rows
    return whole


def read_shards(records: Dataset, split: str) -> Iterator[Arrays]:
    """The columns of each shard of a split, in order. Raises CorruptDatasetError as `read_split` does."""
    records.check_sizes()
    fs, _ = fsspec.core.url_to_fs(records.path)
    remedy = f"rebuild {records.manifest.dataset}"
    for path, shard in _shards(records, split):
        columns = records.manifest.tables[split].columns
        raw = fs.cat_file(path)
        if hashlib.sha256(raw).hexdigest() != shard.sha256:
            raise CorruptDatasetError(f"{path} was altered since it was published; {remedy}")
        try:
            arrays = decode(gzip.decompress(raw) if path.endswith(".gz") else raw, columns)
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise CorruptDatasetError(f"{path}: {error}; {remedy}") from None
        if (rows := len(arrays[columns[0].name])) != shard.rows:
            raise CorruptDatasetError(f"{path} must have {shard.rows} records, got {rows}; {remedy}")
        yield arrays


def _shards(records: Dataset, split: str) -> list[tuple[str, Shard]]:
    """Full path and description of each shard of a split."""
    return list(zip(records.table_paths(split), records.manifest.tables[split].shards, strict=True))
