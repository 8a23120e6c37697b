"""The byte layout of framed tf.Example records: constant bytes once, and where the values lie.

All records of one layout differ only in the slots of their values, because lists have fixed lengths and varints
are padded to fixed widths. Field order is that of the columns, so that equal rows are equal bytes on any machine.

Formats: tensorflow/core/example/{example,feature}.proto, and the TFRecord framing of
tensorflow/core/lib/io/record_writer.h (length, its masked CRC-32C, data, its masked CRC-32C).
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ThawError
from schemas.manifest import ColumnEntry

FRAME_HEAD = 12
"""Bytes before the data: its length, and that length's CRC."""
FRAME_TAIL = 4
"""Bytes after the data: its CRC."""
_LISTS = {"string": 1, "float32": 2, "list<float32>": 2, "int64": 3, "list<int64>": 3}
"""Column type -> field number of its list in tf.train.Feature: bytes_list, float_list, int64_list."""


@dataclass(frozen=True)
class Slot:
    """Where a column's values lie in a record."""

    column: ColumnEntry
    start: int
    size: int

    @property
    def values(self) -> int:
        """Values in the slot."""
        return max(self.column.length, 1)


@dataclass(frozen=True, eq=False)
class Layout:
    """The bytes of a framed record with zeros for its values and for the data's CRC."""

    template: NDArray[np.uint8]
    constant: NDArray[np.bool_]
    """True at the bytes that are the same in every record."""
    slots: tuple[Slot, ...]


@lru_cache(maxsize=256)
def layout(columns: tuple[ColumnEntry, ...], string_bytes: int = 0) -> Layout:
    """The layout of records of these columns. `string_bytes`: the length of the one string that has no fixed one.

    Raises ThawError where records of these columns have no such layout.
    """
    if sum(varies(column) for column in columns) > 1:
        raise ThawError("at most one string column of a record may vary in length")
    fields = [(column, slot_bytes(column, string_bytes)) for column in columns]
    entries = [_delimited(1, _entry(column, size)) for column, size in fields]
    opening = b"\x0a" + _varint(sum(map(len, entries)))
    ends = FRAME_HEAD + len(opening) + np.cumsum([len(entry) for entry in entries])
    slots = tuple(Slot(column, int(end) - size, size) for (column, size), end in zip(fields, ends, strict=True))
    data = opening + b"".join(entries)
    length = struct.pack("<Q", len(data))
    framed = length + struct.pack("<I", masked_crc(length)) + data + bytes(FRAME_TAIL)
    constant = np.ones(len(framed), bool)
    constant[-FRAME_TAIL:] = False
    for slot in slots:
        constant[slot.start : slot.start + slot.size] = False
    return Layout(np.frombuffer(framed, np.uint8), constant, slots)


def varies(column: ColumnEntry) -> bool:
    """True for a string of any length."""
    return column.type == "string" and not column.length


def slot_bytes(column: ColumnEntry, string_bytes: int) -> int:
    """Bytes of a column's values."""
    kind = _LISTS.get(column.type)
    if kind is None or (kind == 3 and not 1 <= column.width <= 10):
        raise ThawError(
            "a record holds strings, float32 and int64 of 1 to 10 bytes, "
            f"`{column.name}` is {column.type} of width {column.width}"
        )
    if kind == 1:
        return column.length or string_bytes
    return max(column.length, 1) * (4 if kind == 2 else column.width)


def masked_crc(data: bytes) -> int:
    """CRC-32C of `data`, rotated and shifted as TFRecord stores it."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _entry(column: ColumnEntry, size: int) -> bytes:
    """One entry of the map `Features.feature`, its values, `size` zeros, last."""
    feature = _delimited(_LISTS[column.type], _delimited(1, bytes(size)))
    return _delimited(1, column.name.encode()) + _delimited(2, feature)


def _delimited(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """A varint in its shortest form."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
