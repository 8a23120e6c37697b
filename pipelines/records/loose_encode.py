"""Records with loose columns: strings and lists of any length, and missing values.

A record is its opening, the entries of its columns in order, and its CRC. An entry is a head, which the size of its
content determines, and the content. So sizes are counted first, places follow, and pieces are put where they belong.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.records import fixed
from pipelines.records.framing import crcs
from pipelines.records.intake import Flat, flat_values
from pipelines.records.layout import FRAME_HEAD, FRAME_TAIL, MISSING, Columns, Layout, head, opening, parts, value_head
from pipelines.records.numbers import to_bytes
from pipelines.records.scatter import pieces_of, put, put_made, put_ragged
from schemas.manifest import ColumnEntry

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def encode_loose(values: Mapping[str, Any], columns: Columns, rows: int) -> tuple[Bytes, Ints]:
    """Framed records and where each begins, as `wire.encode` says."""
    made = [part if isinstance(part, Layout) else _Entry(part, values[part.name], rows) for part in parts(columns)]
    inner = np.zeros(rows, np.int64) + sum(part.size for part in made)
    openings = pieces_of(opening, inner)
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(openings.sizes + inner + FRAME_TAIL, out=offsets[1:])
    data = np.empty(int(offsets[-1]), np.uint8)
    step = max(fixed.BLOCK_BYTES * rows // max(len(data), 1), 1)
    entries = [_Run(part, values, rows, step) if isinstance(part, Layout) else part for part in made]
    for start in range(0, rows, step):
        some = slice(start, start + step)
        at, before = offsets[:-1][some], openings.of(some)
        put_made(data, at, before)
        at = at + before.sizes
        for entry in entries:
            entry.put(data, at, some)
            at = at + (entry.size[some] if isinstance(entry, _Entry) else entry.size)
        block = data[offsets[start] : at[-1]].tobytes()
        found = crcs(block, offsets[:-1][some] - offsets[start] + FRAME_HEAD, at - offsets[start])
        put(data, at, found.view(np.uint8).reshape(-1, FRAME_TAIL))
    return data, offsets


class _Run:
    """The entries of neighbouring fixed columns."""

    def __init__(self, form: Layout, values: Mapping[str, Any], rows: int, step: int) -> None:
        self._filler = fixed.Filler(form, values, rows, step)
        self.size = form.size

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
        self.size: Ints = self._heads.sizes + sizes

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
