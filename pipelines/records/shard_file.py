"""One shard file from its sorted rows. Which rows it gets, and on which engine, is left to the writers.

A file's bytes are a function of its rows alone: not of how they were batched, nor of when and where they were written.
"""

import gzip
import hashlib
import posixpath
from collections.abc import Iterable, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from pipelines.records.shuffle_check import Summary, summarise
from pipelines.storage import whole_file
from schemas.manifest import Shard

_GZIP_LEVEL = 6
_BLOCK_BYTES = 1 << 20
"""The compressor is fed blocks of this size, however the rows were batched."""


class Written(BaseModel):
    """A shard file, and what the checks of its dataset need to know of its rows."""

    model_config = ConfigDict(frozen=True)

    shard: Shard
    summary: Summary
    duplicate: str | None = None
    """An example_id that two of its rows have."""


def shard_name(table: str, number: int, compression: str) -> str:
    """Path of a shard, relative to its dataset.

    >>> shard_name("train", 3, "GZIP")
    'train/part-00003.tfrecord.gz'
    """
    return f"{table}/part-{number:05d}.tfrecord{'.gz' if compression else ''}"


def write_shard(batches: Iterable[pa.RecordBatch], folder: str, name: str, span: tuple[int, int]) -> Written:
    """Write rows, sorted by (order key, example_id), to the file `name` under `folder`.

    `batches`: columns example_id, event_time, label and record (framed). `span`: the earliest and latest event_time,
    the scale of the summary. A name that ends in .gz is compressed. A `whole_file`: a retried or doubled task leaves
    the same one.
    """
    fs, root = fsspec.core.url_to_fs(folder)
    fs.makedirs(posixpath.dirname(posixpath.join(root, name)), exist_ok=True)
    summary, duplicate, last = Summary(), None, None
    with whole_file(posixpath.join(folder, name)) as file:
        out = _HashedFile(file, compressed=name.endswith(".gz"))
        for batch in batches:
            ids = batch.column("example_id")
            duplicate = duplicate or _repeated(ids, last)
            last = ids[-1].as_py() if len(ids) else last
            times, labels = (batch.column(c).to_numpy(zero_copy_only=False) for c in ("event_time", "label"))
            summary = summary.then(summarise(times, labels, span))
            out.write(_joined(batch.column("record")))
        out.finish()
    shard = Shard(path=name, rows=summary.rows, bytes=out.bytes, sha256=out.hasher.hexdigest())
    return Written(shard=shard, summary=summary, duplicate=duplicate)


def remove_strays(folder: str, names: Sequence[str]) -> None:
    """Remove what killed tasks left beside the files `names` under `folder`: they could not do it themselves."""
    fs, root = fsspec.core.url_to_fs(folder)
    wanted = {posixpath.join(root, name) for name in names}
    for place in {posixpath.dirname(path) for path in wanted}:
        for path in fs.ls(place, detail=False):
            if path.endswith(".tmp") and path not in wanted:
                fs.rm(path)


def _repeated(ids: pa.Array, last: str | None) -> str | None:
    """The first id that follows itself, `last` being the one before them."""
    if len(ids) and ids[0].as_py() == last:
        return last
    same = pc.index(pc.equal(ids[1:], ids[:-1]), True).as_py()
    return None if same < 0 else str(ids[same])


class _HashedFile:
    """Writes to a file, compressed or not, and keeps size and SHA-256 of what reached it."""

    def __init__(self, file: Any, compressed: bool) -> None:
        self.bytes = 0
        self.hasher = hashlib.sha256()
        self._file = file
        # mtime 0 and no name: equal rows must make equal bytes.
        self._gzip = gzip.GzipFile("", "wb", _GZIP_LEVEL, fileobj=_Sink(self._put), mtime=0) if compressed else None
        self._pending = bytearray()

    def write(self, data: memoryview) -> None:
        if self._gzip is None:
            self._put(data)
            return
        self._pending += data
        whole = len(self._pending) // _BLOCK_BYTES * _BLOCK_BYTES
        for start in range(0, whole, _BLOCK_BYTES):
            self._gzip.write(bytes(self._pending[start : start + _BLOCK_BYTES]))
        del self._pending[:whole]

    def finish(self) -> None:
        if self._gzip is not None:
            self._gzip.write(bytes(self._pending))
            self._gzip.close()

    def _put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self.hasher.update(data)
        self.bytes += len(data)


class _Sink:
    """A file that only takes bytes, for the compressor."""

    def __init__(self, put: Any) -> None:
        self._put = put

    def write(self, data: bytes) -> int:
        self._put(data)
        return len(data)

    def flush(self) -> None:
        pass


def _joined(records: pa.Array) -> memoryview:
    """The bytes of all records of a binary array, which lie one after the other: no copy."""
    if not len(records):
        return memoryview(b"")
    offsets = np.frombuffer(records.buffers()[1], np.int32)[records.offset : records.offset + len(records) + 1]
    return memoryview(records.buffers()[2])[int(offsets[0]) : int(offsets[-1])]
