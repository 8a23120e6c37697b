"""Published records to numpy arrays or Arrow batches, a shard at a time, without TensorFlow.

Every file is checked against the manifest, every record by its CRC. Batches for training are `training.input`'s.
"""

import difflib
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.errors import ConfigError, CorruptDatasetError, InputError
from pipelines.records.wire import decode
from pipelines.storage import ARROW_TYPES, Dataset, sha256_of
from schemas.manifest import ColumnEntry, Shard, TableEntry

Arrays = dict[str, NDArray[Any]]


def read_split(records: Dataset, split: str, columns: Sequence[str] | None = None) -> Arrays:
    """The columns of a split, all by default, shards in order: scalars (rows,), lists (rows, length), bytes of dtype S.

    Raises CorruptDatasetError where a shard is missing, short or altered, InputError where a name is unknown.
    """
    rows_of_all = split_entry(records, split).rows
    whole: Arrays = {}
    start = 0
    for arrays in read_shards(records, split, columns):
        rows = len(next(iter(arrays.values())))
        for name, values in arrays.items():
            if name not in whole:
                whole[name] = np.empty((rows_of_all, *values.shape[1:]), values.dtype)
            elif values.dtype == object != whole[name].dtype:
                # Only this shard holds what its type of numpy cannot.
                whole[name] = whole[name].astype(object)
            whole[name][start : start + rows] = values
        start += rows
    return whole


def read_shards(
    records: Dataset,
    split: str,
    columns: Sequence[str] | None = None,
    *,
    process_index: int = 0,
    num_processes: int = 1,
) -> Iterator[Arrays]:
    """The columns of each shard of a split, in order; of several processes, each gets shards of its own.

    Raises what `read_split` does.
    """
    check_share(process_index, num_processes)
    entry = split_entry(records, split)
    names = column_names(entry, columns)
    fs, _ = fsspec.core.url_to_fs(records.path)
    for path, shard in sized_shards(records, split)[process_index::num_processes]:
        arrays = _decoded(path, _checked(fs, path, shard, _remedy(records)), shard, entry.columns, _remedy(records))
        yield {name: arrays[name] for name in names}


def read_arrow(
    records: Dataset,
    split: str,
    columns: Sequence[str] | None = None,
    *,
    process_index: int = 0,
    num_processes: int = 1,
) -> Iterator[pa.RecordBatch]:
    """`read_shards` as one Arrow batch a shard. Bytes are `binary`; what a nullable column lacks is null.

    Raises what `read_split` does.
    """
    entry = split_entry(records, split)
    types = {column.name: _arrow_type(column) for column in entry.columns}
    for arrays in read_shards(records, split, columns, process_index=process_index, num_processes=num_processes):
        yield pa.record_batch({name: _to_arrow(values, types[name]) for name, values in arrays.items()})


def split_entry(records: Dataset, split: str) -> TableEntry:
    """What the manifest says of a split. Raises InputError, with the nearest name, where there is none."""
    splits = [name for name, entry in records.manifest.tables.items() if entry.format == "tfrecord"]
    _known("split", [split], splits)
    return records.manifest.tables[split]


def column_names(entry: TableEntry, asked: Sequence[str] | None) -> list[str]:
    """The columns asked for, all by default. Raises InputError, with the nearest name, where one is unknown."""
    names = [column.name for column in entry.columns]
    if asked is not None:
        _known("column", asked, names)
    return names if asked is None else list(asked)


def check_share(process_index: int, num_processes: int) -> None:
    """Raises ConfigError where `process_index` is not one of `num_processes`."""
    if not 0 <= process_index < num_processes:
        raise ConfigError(
            f"`process_index` must be from 0 to num_processes - 1, got {process_index} of {num_processes}; "
            "number the processes from 0"
        )


def sized_shards(records: Dataset, split: str) -> list[tuple[str, Shard]]:
    """Full path and description of each shard of a split, looked for but not read.

    Raises CorruptDatasetError, naming the first one that is missing or of another size.
    """
    fs, _ = fsspec.core.url_to_fs(records.path)
    shards = list(zip(records.table_paths(split), split_entry(records, split).shards, strict=True))
    for path, shard in shards:
        try:
            _check_size(path, shard, fs.size(path), _remedy(records))
        except FileNotFoundError:
            raise CorruptDatasetError(f"{path} is missing; {_remedy(records)}") from None
    return shards


def verify_shard(records: Dataset, path: str, shard: Shard, copy: str = "") -> None:
    """Check size and SHA-256 of a shard, in its copy if there is one, a block at a time.

    Raises CorruptDatasetError naming `path` where it is missing, short or altered.
    """
    fs, place = fsspec.core.url_to_fs(copy or path)
    try:
        _check_size(path, shard, fs.size(place), _remedy(records))
        _check_digest(path, shard, sha256_of(fs, place), _remedy(records))
    except FileNotFoundError:
        raise CorruptDatasetError(f"{path} is missing; {_remedy(records)}") from None


def _checked(fs: Any, path: str, shard: Shard, remedy: str) -> bytes:
    """The bytes of a shard file, which are those that were published."""
    raw: bytes = fs.cat_file(path)
    _check_size(path, shard, len(raw), remedy)
    _check_digest(path, shard, hashlib.sha256(raw).hexdigest(), remedy)
    return raw


def _check_size(path: str, shard: Shard, size: int, remedy: str) -> None:
    if size != shard.bytes:
        raise CorruptDatasetError(f"{path} must have {shard.bytes} bytes, got {size}; {remedy}")


def _check_digest(path: str, shard: Shard, digest: str, remedy: str) -> None:
    if digest != shard.sha256:
        raise CorruptDatasetError(f"{path} was altered since it was published; {remedy}")


def _decoded(path: str, raw: bytes, shard: Shard, columns: tuple[ColumnEntry, ...], remedy: str) -> Arrays:
    """The columns of a shard. Raises CorruptDatasetError where its bytes are not the records of the manifest."""
    try:
        arrays = decode(gzip.decompress(raw) if path.endswith(".gz") else raw, columns)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise CorruptDatasetError(f"{path}: {error}; {remedy}") from None
    if (rows := len(arrays[columns[0].name])) != shard.rows:
        raise CorruptDatasetError(f"{path} must have {shard.rows} records, got {rows}; {remedy}")
    return arrays


def _remedy(records: Dataset) -> str:
    return f"rebuild {records.manifest.dataset}"


def _known(kind: str, asked: Iterable[str], known: Sequence[str]) -> None:
    """Raises InputError for the first name that is not known."""
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            meant = f"; did you mean {near[0]!r}?" if near else "; choose one of them"
            raise InputError(f"a {kind} of these records must be among {', '.join(known)}, got {name!r}{meant}")


def _arrow_type(column: ColumnEntry) -> pa.DataType:
    """A string of a record is bytes of any meaning; only an example_id is known to be text."""
    if column.name == "example_id":
        return pa.string()
    return {"string": pa.binary(), "list<string>": pa.list_(pa.binary())}.get(column.type, ARROW_TYPES[column.type])


def _to_arrow(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """A decoded column as an Arrow array."""
    if values.dtype.kind == "S":
        # numpy takes the zero bytes at the end of a value for padding; they belong to it.
        size, data = values.dtype.itemsize, np.ascontiguousarray(values)
        raw = pa.Array.from_buffers(pa.binary(size), len(values), [None, pa.py_buffer(data.view(np.uint8))])
        return raw.cast(pa.binary()).cast(kind)
    if values.ndim == 2:
        rows, length = values.shape
        offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(length)
        return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1), kind.value_type))
    return pa.array(values, kind)
