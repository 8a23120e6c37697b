"""Pieces of bytes to any places of a buffer, and back, by numpy alone.

A view with one element for each byte, overlapping its neighbours, lets numpy copy a piece of any size by one index.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

_LONG = 64
"""Values to a piece from which copying piece by piece is faster than an index for every value."""


def put(data: Bytes, at: Ints, pieces: Bytes) -> None:
    """Write each of `pieces` (pieces, bytes) to its place in `data`."""
    if pieces.size:
        width = pieces.shape[1]
        _cells(data, width)[at] = np.ascontiguousarray(pieces).view(f"V{width}")[:, 0]


def get(data: Bytes, at: Ints, width: int) -> Bytes:
    """The `width` bytes at each place: (places, width). Raises IndexError where some are beyond the end."""
    if not len(at) or not width:
        return np.empty((len(at), width), np.uint8)
    return _cells(data, width)[at].view(np.uint8).reshape(len(at), width)


def put_ragged(data: Bytes, at: Ints, values: Bytes, counts: Ints) -> None:
    """Write consecutive values (values, bytes), the next `counts[i]` of them to `at[i]`."""
    width = values.shape[1]
    if not values.size:
        return
    if (counts == counts[0]).all():
        put(data, at, values.reshape(len(at), -1))
    elif len(values) > _LONG * len(at):
        source, target, start = values.reshape(-1).data, data.data, 0
        for place, size in zip(at.tolist(), (counts * width).tolist(), strict=True):
            target[place : place + size] = source[start : start + size]
            start += size
    else:
        put(data, _places(at, counts, width), values)


def get_ragged(data: Bytes, at: Ints, counts: Ints, width: int) -> Bytes:
    """`counts[i]` values of `width` bytes from `at[i]` on, one after the other: (values, width)."""
    return get(data, _places(at, counts, width), width)


class Made(NamedTuple):
    """A piece for each row. `pieces`: (rows, longest), filled up with zeros; `sizes`: (rows,); `distinct`: of sizes."""

    pieces: Bytes
    sizes: Ints
    distinct: tuple[int, ...]

    def of(self, rows: slice) -> "Made":
        """The pieces of some rows."""
        return self._replace(pieces=self.pieces[rows], sizes=self.sizes[rows])


def pieces_of(make: Callable[[int], bytes], keys: Ints) -> Made:
    """The piece of each key; `make` is called once for each distinct one."""
    distinct, inverse = distinct_of(keys)
    made = [make(key) for key in distinct.tolist()]
    sizes = np.array([len(piece) for piece in made], np.int64)
    longest = int(sizes.max(initial=0))
    table = np.frombuffer(b"".join(piece.ljust(longest, b"\0") for piece in made), np.uint8)
    return Made(table.reshape(len(made), longest)[inverse], sizes[inverse], tuple(set(sizes.tolist())))


def distinct_of(keys: Ints) -> tuple[Ints, Ints]:
    """The distinct keys in order, and where each key is among them."""
    low, high = (int(keys.min()), int(keys.max())) if len(keys) else (0, 0)
    if high - low > len(keys):
        return np.unique(keys, return_inverse=True)
    # Sizes are mostly of a small range: counting is several times as fast as sorting.
    is_there = np.bincount(keys - low) > 0
    return np.flatnonzero(is_there) + low, (np.cumsum(is_there) - 1)[keys - low]


def put_made(data: Bytes, at: Ints, made: Made) -> None:
    """Write each row's piece to its place."""
    if len(made.distinct) == 1:
        put(data, at, made.pieces)
        return
    for size in made.distinct:
        rows = np.flatnonzero(made.sizes == size)
        put(data, at[rows], made.pieces[rows, :size])


def _cells(data: Bytes, width: int) -> NDArray[np.void]:
    """Element i is the `width` bytes of `data` from i on."""
    if len(data) < width:
        raise IndexError(f"{len(data)} bytes hold no {width}")
    return np.ndarray((len(data) - width + 1,), f"V{width}", data, strides=(1,))


def _places(at: Ints, counts: Ints, width: int) -> Ints:
    """The place of each value, where `counts[i]` of them lie from `at[i]` on."""
    before = np.cumsum(counts) - counts
    places: Ints = np.repeat(at - before * width, counts) + np.arange(int(counts.sum())) * width
    return places
