"""Records with loose columns: strings and lists of any length, and missing values.

A record is its opening, the entries of its columns in order, and its CRC. An entry is a head, which the size of its
content determines, and the content. So sizes are counted first, places follow, and pieces are put where they belong.
"""

import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipelines.records import fixed
from pipelines.records.intake import Flat, flat_values
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
    value_head,
    varint,
)
from pipelines.records.numbers import from_bytes, from_varints, to_bytes
from pipelines.records.scatter import Made, get, get_ragged, pieces_of, put, put_made, put_ragged
from schemas.manifest import ColumnEntry

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

_LEAST_BYTES = 512
"""A record is taken for no smaller where blocks are cut."""


def encode_loose(values: Mapping[str, Any], columns: Columns, rows: int) -> tuple[Bytes, Ints]:
    """Framed records and where each begins, as `wire.encode` says."""
    constant = sum(part.size for part in parts(columns) if isinstance(part, Layout))
    step = max(fixed.BLOCK_BYTES // max(constant, _LEAST_BYTES), 1)
    entries = [
        _Run(part, values, rows, step) if isinstance(part, Layout) else _Entry(part, values[part.name], rows)
        for part in parts(columns)
    ]
    inner = np.sum([entry.sizes for entry in entries], axis=0)
    openings = pieces_of(opening, inner)
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(openings.sizes + inner + FRAME_TAIL, out=offsets[1:])
    data = np.empty(int(offsets[-1]), np.uint8)
    for start in range(0, rows, step):
        some = slice(start, start + step)
        at, before = offsets[:-1][some], openings.of(some)
        put_made(data, at, before)
        at = at + before.sizes
        for entry in entries:
            entry.put(data, at, some)
            at = at + entry.sizes[some]
        block = data[offsets[start] : at[-1]].tobytes()
        found = _crcs(block, offsets[:-1][some] - offsets[start] + FRAME_HEAD, at - offsets[start])
        put(data, at, found.view(np.uint8).reshape(-1, FRAME_TAIL))
    return data, offsets


def decode_loose(data: bytes, columns: Columns) -> dict[str, Array]:
    """The columns of framed records, as `wire.decode` says."""
    starts, sizes = _frames(data)
    found: dict[str, list[Array]] = {column.name: [] for column in columns}
    step = max(fixed.BLOCK_BYTES * len(starts) // max(len(data), 1), 1)
    for first in range(0, max(len(starts), 1), step):
        reader = _Reader(data, first, starts[first : first + step], sizes[first : first + step])
        for part in parts(columns):
            for name, values in (reader.run(part) if isinstance(part, Layout) else reader.entry(part)).items():
                found[name].append(values)
        reader.finish()
    return {name: np.concatenate(some) for name, some in found.items()}


class _Run:
    """The entries of neighbouring fixed columns."""

    def __init__(self, form: Layout, values: Mapping[str, Any], rows: int, step: int) -> None:
        self._filler = fixed.Filler(form, values, rows, step)
        self.sizes: Ints = np.full(rows, form.size, np.int64)

    def put(self, data: Bytes, at: Ints, rows: slice) -> None:
        """Write the entries of some rows to their places."""
        put(data, at, self._filler.fill(rows))


class _Entry:
    """The entries of a loose column: heads, and contents as consecutive values, `counts` of them to a row."""

    def __init__(self, column: ColumnEntry, values: Any, rows: int) -> None:
        missing, self._counts, self._contents = _contents(flat_values(values, column, rows), column)
        sizes = self._counts * self._contents.shape[1]
        self._heads = pieces_of(partial(head, column), np.where(missing, MISSING, sizes))
        self._ends: Ints = np.cumsum(self._counts)
        self.sizes: Ints = self._heads.sizes + sizes

    def put(self, data: Bytes, at: Ints, rows: slice) -> None:
        """Write the entries of some rows to their places."""
        heads, counts, ends = self._heads.of(rows), self._counts[rows], self._ends[rows]
        put_made(data, at, heads)
        put_ragged(data, at + heads.sizes, self._contents[ends[0] - counts[0] : ends[-1]], counts)


def _contents(flat: Flat, column: ColumnEntry) -> tuple[NDArray[np.bool_], Ints, Bytes]:
    """Which rows are missing, and every row's content: the number of its values, and all values (values, bytes)."""
    if flat.lengths is None:
        return flat.missing, flat.counts, to_bytes(flat.values, column)
    if column.type == "string":
        counts = np.zeros(len(flat.counts), np.int64)
        counts[~flat.missing] = flat.lengths
        return flat.missing, counts, flat.values[:, None]
    heads = pieces_of(value_head, flat.lengths)
    ends = np.cumsum(heads.sizes + flat.lengths)
    joined = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    put_made(joined, ends - flat.lengths - heads.sizes, heads)
    put_ragged(joined, ends - flat.lengths, flat.values[:, None], flat.lengths)
    before = np.concatenate([np.zeros(1, np.int64), ends])[np.cumsum(np.concatenate([[0], flat.counts]))]
    return flat.missing, np.diff(before), joined[:, None]


class _Reader:
    """Reads a block of framed records, entry by entry."""

    def __init__(self, data: bytes, first: int, starts: Ints, sizes: Ints) -> None:
        self._bytes, self._data, self._first = data, np.frombuffer(data, np.uint8), first
        self._ends = starts + sizes - FRAME_TAIL
        self._require(sizes >= FRAME_HEAD + FRAME_TAIL)
        stored = get(self._data, self._ends, FRAME_TAIL).view("<u4").reshape(-1)
        wrong = stored != _crcs(data, starts + FRAME_HEAD, self._ends)
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
        for size in np.unique(made.sizes).tolist():
            rows = np.flatnonzero(made.sizes == size)
            fits = np.ones(len(made.sizes), bool)
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


def _frames(data: bytes) -> tuple[Ints, Ints]:
    """Start and size of each framed record. Raises ValueError where the last one is cut off."""
    starts, place = [0], 0
    while place + FRAME_HEAD <= len(data):
        place += struct.unpack_from("<Q", data, place)[0] + FRAME_HEAD + FRAME_TAIL
        starts.append(place)
    if place != len(data):
        raise ValueError(f"record {len(starts) - 1} is cut off")
    ends = np.array(starts, np.int64)
    return ends[:-1], np.diff(ends)


def _crcs(data: bytes, starts: Ints, ends: Ints) -> NDArray[np.uint32]:
    """The masked CRC of the data from each start to its end."""
    value, spans = google_crc32c.value, zip(starts.tolist(), ends.tolist(), strict=True)
    return fixed.mask(np.fromiter([value(data[start:end]) for start, end in spans], "<u4", len(starts)))


def _lookup(find: Callable[[int], int], keys: Ints) -> Ints:
    """`find` of each key, called once for each distinct one."""
    distinct, inverse = np.unique(keys, return_inverse=True)
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
