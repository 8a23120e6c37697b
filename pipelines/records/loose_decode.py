"""Records with loose columns back to arrays: strings and lists of any length, and missing values.

An entry's length determines the size of its content, and that its head. So entries are walked through in order, all
records of a block at once, and every byte that is not a value is compared with what it must be.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.records import fixed
from pipelines.records.framing import crcs, frames
from pipelines.records.layout import (
    FRAME_HEAD,
    FRAME_TAIL,
    MISSING,
    Columns,
    Layout,
    head,
    opening,
    parts,
    unit,
    varint,
)
from pipelines.records.numbers import from_bytes, from_varints
from pipelines.records.scatter import Made, distinct_of, get, get_ragged, pieces_of
from schemas.manifest import ColumnEntry

Array = NDArray[Any]
Ints = NDArray[np.int64]


def decode_loose(data: bytes, columns: Columns) -> dict[str, Array]:
    """The columns of framed records, as `wire.decode` says."""
    starts, sizes = frames(data)
    found: dict[str, list[Array]] = {column.name: [] for column in columns}
    step = max(fixed.BLOCK_BYTES * len(starts) // max(len(data), 1), 1)
    for first in range(0, max(len(starts), 1), step):
        reader = _Reader(data, first, starts[first : first + step], sizes[first : first + step])
        for part in parts(columns):
            for name, values in (reader.run(part) if isinstance(part, Layout) else reader.entry(part)).items():
                found[name].append(values)
        reader.finish()
    return {name: np.concatenate(some) for name, some in found.items()}


class _Reader:
    """Reads a block of framed records, entry by entry."""

    def __init__(self, data: bytes, first: int, starts: Ints, sizes: Ints) -> None:
        self._bytes, self._data, self._first = data, np.frombuffer(data, np.uint8), first
        self._ends = starts + sizes - FRAME_TAIL
        self._require(sizes >= FRAME_HEAD + FRAME_TAIL)
        stored = get(self._data, self._ends, FRAME_TAIL).view("<u4").reshape(-1)
        wrong = stored != crcs(data, starts + FRAME_HEAD, self._ends)
        if wrong.any():
            raise ValueError(f"record {first + int(wrong.argmax())} does not match its CRC")
        self._at = starts
        self._heads(pieces_of(opening, _lookup(_entries_size, sizes)))

    def run(self, form: Layout) -> dict[str, Array]:
        """The fixed columns that come next."""
        self._require(self._at + form.size <= self._ends)
        block = get(self._data, self._at, form.size)
        self._require(~fixed.misfits(block, form))
        self._at = self._at + form.size
        return fixed.read(block, form)

    def entry(self, column: ColumnEntry) -> dict[str, Array]:
        """The loose column that comes next: objects, None where missing."""
        sizes = self._sizes(column)
        self._heads(pieces_of(partial(head, column), sizes))
        missing, at = sizes == MISSING, self._at
        sizes = np.maximum(sizes, 0)
        self._require((at + sizes <= self._ends) & (sizes % unit(column) == 0))
        self._at = at + sizes
        if column.type == "string":
            values: list[Any] = [self._bytes[a:b] for a, b in zip(at.tolist(), self._at.tolist(), strict=True)]
        elif column.type == "list<string>":
            values = [self._texts(a, b) for a, b in zip(at.tolist(), self._at.tolist(), strict=True)]
        else:
            counts = sizes // unit(column)
            raw = get_ragged(self._data, at, counts, unit(column))
            values = np.split(from_bytes(raw, column), np.cumsum(counts))[:-1]
            values = values if column.type.startswith("list") else [some[0] if len(some) else None for some in values]
        whole = np.empty(len(values), object)
        for row, value in enumerate(values):
            whole[row] = value
        whole[missing] = None
        return {column.name: whole}

    def finish(self) -> None:
        """Raises ValueError where a record holds more."""
        self._require(self._at == self._ends)

    def _heads(self, made: Made) -> None:
        """Step over these pieces, which must come next."""
        self._require(self._at + made.sizes <= self._ends)
        fits = np.ones(len(made.sizes), bool)
        for size in made.distinct:
            rows = np.flatnonzero(made.sizes == size)
            fits[rows] = (get(self._data, self._at[rows], size) == made.pieces[rows, :size]).all(axis=1)
        self._require(fits)
        self._at = self._at + made.sizes

    def _sizes(self, column: ColumnEntry) -> Ints:
        """The size of each row's content, from the length of the entry that comes next."""
        self._require(self._at + 6 <= self._ends)
        digits = get(self._data, self._at + 1, 5)
        goes_on = np.cumprod(digits >> 7, axis=1)
        self._require(goes_on[:, -1] == 0)
        digits[:, 1:] *= goes_on[:, :-1]
        return _lookup(partial(_content_size, column), from_varints(digits))

    def _texts(self, start: int, end: int) -> list[bytes]:
        """The strings of a BytesList. Raises ValueError where it is none."""
        found, at = [], start
        while at < end:
            size, place = 0, 0
            digits = self._bytes[at + 1 : min(at + 6, end)]
            while place < len(digits) and digits[place] > 0x7F:
                size |= (digits[place] & 0x7F) << 7 * place
                place += 1
            if self._bytes[at] != 0x0A or place == len(digits):
                raise ValueError("a list of strings does not have the layout of its column")
            size |= digits[place] << 7 * place
            at += 2 + place + size
            found.append(self._bytes[at - size : at])
        if at != end:
            raise ValueError("a list of strings does not have the layout of its column")
        return found

    def _require(self, fits: NDArray[np.bool_]) -> None:
        if not fits.all():
            row = self._first + int((~fits).argmax())
            raise ValueError(f"record {row} does not have the layout of its columns")


def _lookup(find: Callable[[int], int], keys: Ints) -> Ints:
    """`find` of each key, called once for each distinct one."""
    distinct, inverse = distinct_of(keys)
    return np.array([find(key) for key in distinct.tolist()], np.int64)[inverse]


def _entries_size(size: int) -> int:
    """Bytes of the entries of a framed record of `size` bytes."""
    return next(
        (inner for inner in range(size - 26, size) if len(opening(max(inner, 0))) + inner + FRAME_TAIL == size), 0
    )


def _content_size(column: ColumnEntry, entry: int) -> int:
    """Bytes of the content, or MISSING, where the entry has `entry` bytes after its own length.

    Where there is no such content it is 0: the head that would come with it is then not found.
    """
    whole = 1 + len(varint(entry)) + entry
    if whole == len(head(column, MISSING)):
        return MISSING
    least = len(head(column, 0))
    return next(
        (whole - some for some in range(least, least + 25) if len(head(column, max(whole - some, 0))) == some), 0
    )
