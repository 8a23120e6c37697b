"""Rows of a listing to pixels, a block at a time: the bytes from where they lie, then decoded. No engine."""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from pipelines.errors import SourceError
from pipelines.images.decode import Decoder, UnreadableError
from pipelines.storage import arrow_schema
from schemas.interactions import QUARANTINE
from schemas.manifest import canonical_json

_NOT_THERE = (FileNotFoundError, NotADirectoryError)
_FOR_GOOD = (*_NOT_THERE, IsADirectoryError, PermissionError)
"""What is wrong with one image, and will be so again. Any other error is a disk's or a network's."""
_NO_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)
_PAUSES_S = (0.5, 2.0)
"""Before a read that failed is tried again."""


@dataclass(frozen=True)
class Block:
    """Images that could be read, and those that could not."""

    rows: pa.Table
    """Of the listing, those that could be read."""
    pixels: list[bytes]
    """One a row: (height, width, channels), uint8."""
    bad: list[dict[str, str]]
    """Rows for the quarantine."""


def read_blocks(rows: pa.Table, decoder: Decoder, block_rows: int) -> Iterator[Block]:
    """The images of `rows`, `block_rows` at a time."""
    for start in range(0, rows.num_rows, block_rows):
        yield read_block(rows.slice(start, block_rows), decoder)


def read_block(rows: pa.Table, decoder: Decoder) -> Block:
    """Read and decode. An image that cannot be is set aside, whatever is wrong with it.

    Raises SourceError where a disk or a store fails, again and again: nothing is known of the image then.
    """
    columns = [rows[name].to_pylist() for name in ("file", "offset", "size", "height", "width")]
    pixels: list[bytes] = []
    good: list[int] = []
    bad: list[dict[str, str]] = []
    for place, (data, height, width) in enumerate(zip(read_bytes(*columns[:3]), *columns[3:], strict=True)):
        try:
            if isinstance(data, Exception):
                data = _again(data, *(column[place] for column in columns[:3]))
            pixels.append(decoder.from_grey(data, height, width) if height else decoder.decode(data))
            good.append(place)
        except UnreadableError as error:
            bad.append(quarantined(rows.slice(place, 1).to_pylist()[0], str(error)))
    return Block(rows.take(pa.array(good, pa.int64())) if bad else rows, pixels, bad)


def read_bytes(files: Sequence[str], offsets: Sequence[int], sizes: Sequence[int]) -> Iterator[bytes | Exception]:
    """The bytes of each image, or why there are none. Offset -1: the whole file."""
    # An archive that was unpacked lies where the output does, which may be another file system than the others'.
    systems: dict[str, Any] = {}
    rows: dict[Any, list[tuple[str, int, int]]] = {}
    where = []
    for row in zip(files, offsets, sizes, strict=True):
        host = "/".join(row[0].split("/", 3)[:3]) if "://" in row[0] else ""
        if host not in systems:
            systems[host] = fsspec.core.url_to_fs(row[0])[0]
        where.append(systems[host])
        rows.setdefault(systems[host], []).append(row)
    found = {fs: _read(fs, *zip(*of, strict=True)) for fs, of in rows.items()}
    return (next(found[fs]) for fs in where)


def _read(fs: Any, files: Sequence[str], offsets: Sequence[int], sizes: Sequence[int]) -> Iterator[bytes | Exception]:
    """`read_bytes` of one file system."""
    if isinstance(fs, LocalFileSystem):
        return _local(files, offsets, sizes)
    starts = [None if offset < 0 else offset for offset in offsets]
    ends = [None if offset < 0 else offset + size for offset, size in zip(offsets, sizes, strict=True)]
    found: list[bytes | Exception] = fs.cat_ranges(list(files), starts, ends, on_error="return")
    return iter(found)


def quarantined(row: dict[str, object], reason: str) -> dict[str, str]:
    """A row of the quarantine: `schemas.interactions.QUARANTINE`."""
    kept = {key: row[key] for key in ("label", "split", "item_id") if row.get(key) is not None}
    return {"source": str(row["source"]), "file": str(row["name"]), "reason": reason, "row": canonical_json(kept)}


def quarantine_table(bad: Sequence[dict[str, str]]) -> pa.Table:
    """Rows for the quarantine as its table, in an order of their own."""
    return pa.Table.from_pylist(sorted(bad, key=lambda row: tuple(row.values())), schema=arrow_schema(QUARANTINE))


def _local(files: Sequence[str], offsets: Sequence[int], sizes: Sequence[int]) -> Iterator[bytes | Exception]:
    """Plain reads: fsspec's own cost more than decoding a small image. A file of many images is opened once."""
    opened: dict[str, int] = {}
    try:
        for file, offset, size in zip(files, offsets, sizes, strict=True):
            path = file.removeprefix("file://")
            try:
                if offset < 0:
                    yield _whole(path)
                else:
                    if path not in opened:
                        opened[path] = os.open(path, os.O_RDONLY)
                    yield os.pread(opened[path], size, offset)
            except (OSError, ValueError) as error:
                yield error
    finally:
        for handle in opened.values():
            os.close(handle)


def _whole(path: str) -> bytes:
    """A file's bytes, by the system's own calls: on small images they take half the time of Python's."""
    handle = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(handle).st_size
        data = os.read(handle, size)
        while len(data) < size and (more := os.read(handle, size - len(data))):
            data += more
        return data
    finally:
        os.close(handle)


def _again(error: Exception, file: str, offset: int, size: int) -> bytes:
    """Read once more, and once more, unless it is the image that is wrong. Raises UnreadableError or SourceError."""
    for pause in (*_PAUSES_S, None):
        why = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, _NOT_THERE):
            raise UnreadableError("image: no such file")
        # A ValueError is a name that cannot be, such as one with a NUL.
        if isinstance(error, (*_FOR_GOOD, ValueError)) or getattr(error, "errno", None) in _NO_NAMES:
            raise UnreadableError(f"image: cannot be read ({why})")
        if pause is None:
            break
        time.sleep(pause)
        (data,) = read_bytes([file], [offset], [size])
        if not isinstance(data, Exception):
            return data
        error = data
    raise SourceError(
        f"every image must be readable or not there, {file} failed {len(_PAUSES_S) + 1} times ({why}); check the disk, "
        "or the store and the way to it, and run the job again"
    )
