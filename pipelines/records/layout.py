"""The byte layout of framed tf.Example records: constant bytes, and where the values lie.

Field order is that of the columns, so that equal rows are equal bytes on any machine. A fixed column has as many bytes
in every record, because its length is fixed and its varints are padded to one width. Any other column is loose: a
string or list of any length, or one that may be missing, which is a feature without a value.

Formats: tensorflow/core/example/{example,feature}.proto, and the TFRecord framing of
tensorflow/core/lib/io/record_writer.h (length, its masked CRC-32C, data, its masked CRC-32C).
"""

import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ThawError
from schemas.manifest import ColumnEntry

Columns = tuple[ColumnEntry, ...]

FRAME_HEAD = 12
"""Bytes before the data: its length, and that length's CRC."""
FRAME_TAIL = 4
"""Bytes after the data: its CRC."""
MISSING = -1
"""The size of a content that is not there."""
_LISTS = {"string": 1, "list<string>": 1, "float32": 2, "list<float32>": 2, "int64": 3, "list<int64>": 3}
"""Column type -> field number of its list in tf.train.Feature: bytes_list, float_list, int64_list."""


@dataclass(frozen=True)
class Slot:
    """Where a column's values lie in a record."""

    column: ColumnEntry
    start: int
    size: int


@dataclass(frozen=True, eq=False)
class Layout:
    """The bytes of a framed record, or of some of its entries, with zeros for values and the data's CRC."""

    template: NDArray[np.uint8]
    constant: NDArray[np.bool_]
    """True at the bytes that are the same in every record."""
    slots: tuple[Slot, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.template)


@lru_cache(maxsize=64)
def layout(columns: Columns) -> Layout:
    """The layout of framed records of fixed columns. Raises ThawError where a column cannot be in a record."""
    inner = _entries(columns)
    before = opening(inner.size)
    framed = before + inner.template.tobytes() + bytes(FRAME_TAIL)
    constant = np.concatenate([np.ones(len(before), bool), inner.constant, np.zeros(FRAME_TAIL, bool)])
    slots = tuple(replace(slot, start=slot.start + len(before)) for slot in inner.slots)
    return Layout(np.frombuffer(framed, np.uint8), constant, slots)


@lru_cache(maxsize=64)
def parts(columns: Columns) -> tuple[Layout | ColumnEntry, ...]:
    """A record's entries in order: one layout for neighbouring fixed columns, each loose column by itself."""
    found: list[Layout | ColumnEntry] = []
    for fixed, group in groupby(columns, is_fixed):
        some = tuple(group)
        found.extend([_entries(some)] if fixed else some)
    return tuple(found)


def is_fixed(column: ColumnEntry) -> bool:
    """True where the column has as many bytes in every record. Raises ThawError where no record can hold it."""
    if column.type not in _LISTS:
        raise ThawError(f"a record holds strings, float32 and int64, `{column.name}` is {column.type}; cast it")
    if column.type.endswith(("int64", "int64>")) and not 1 <= column.width <= 10:
        raise ThawError(f"`{column.name}` must have a width of 1 to 10 bytes, got {column.width}; set its width")
    scalar = column.type in ("float32", "int64")
    return not column.nullable and column.type != "list<string>" and (scalar or column.length > 0)


def unit(column: ColumnEntry) -> int:
    """Bytes of one value of a column; of a string, those of one byte."""
    return {1: 1, 2: 4, 3: column.width}[_LISTS[column.type]]


def head(column: ColumnEntry, size: int) -> bytes:
    """What an entry of the map `Features.feature` opens with, where its content has `size` bytes or is MISSING.

    The content is that of the list's packed values, of the one string, or of a list<string>'s BytesList.
    """
    content = max(size, 0)
    feature = b""
    if size != MISSING:
        opened = column.type == "list<string>" or (content == 0 and column.type != "string")
        values = b"" if opened else _opening(1, content)
        feature = _opening(_LISTS[column.type], len(values) + content) + values
    name = column.name.encode()
    entry = _opening(1, len(name)) + name + _opening(2, len(feature) + content) + feature
    return _opening(1, len(entry) + content) + entry


def value_head(size: int) -> bytes:
    """What a string of `size` bytes opens with in a BytesList."""
    return _opening(1, size)


def opening(size: int) -> bytes:
    """What a framed record opens with, where its entries have `size` bytes."""
    features = _opening(1, size)
    length = struct.pack("<Q", len(features) + size)
    return length + struct.pack("<I", masked_crc(length)) + features


def masked_crc(data: bytes) -> int:
    """CRC-32C of `data`, rotated and shifted as TFRecord stores it."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _entries(columns: Columns) -> Layout:
    """The layout of the entries of fixed columns, without a frame."""
    made, slots = bytearray(), []
    for column in columns:
        if not is_fixed(column):
            raise ThawError(f"`{column.name}` must have a fixed length here and no missing value")
        size = max(column.length, 1) * unit(column)
        made += head(column, size) + bytes(size)
        slots.append(Slot(column, len(made) - size, size))
    constant = np.ones(len(made), bool)
    for slot in slots:
        constant[slot.start : slot.start + slot.size] = False
    return Layout(np.frombuffer(bytes(made), np.uint8), constant, tuple(slots))


def _opening(number: int, size: int) -> bytes:
    """Tag and length of a length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + varint(size)


def varint(value: int) -> bytes:
    """A varint in its shortest form."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
