"""The global order of examples: a keyed hash of their ids. Arrays only; any engine sorts by it.

The order is a permutation drawn by the seed. It is the same whatever the order of rows, the number of partitions,
the engine or a retry, because nothing but the id and the seed enters it.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.bits import mixed
from pipelines.errors import DuplicateError, ThawError
from schemas.records import ID_LENGTH

_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)


def order_key(ids: NDArray[np.bytes_], seed: int) -> NDArray[np.uint64]:
    """64-bit keyed hash of each example_id, uniform over the range.

    `ids`: (rows,) of 32 lower-case hexadecimal digits (dtype S32). Raises ThawError on any other id.
    """
    high, low = _halves(ids)
    first, second = np.frombuffer(hashlib.blake2b(f"order/{seed}".encode(), digest_size=16).digest(), "<u8")
    return mixed(mixed(mixed(high ^ first) ^ low) + second)


def shard_of(keys: NDArray[np.uint64], num_shards: int) -> NDArray[np.int64]:
    """The shard of each key: its high bits, scaled. It never falls as keys rise, so any number cuts the one order."""
    return ((keys >> np.uint64(32)) * np.uint64(num_shards) >> np.uint64(32)).astype(np.int64)


def signed(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The keys as signed numbers in the same order, for engines without unsigned ones."""
    return (keys ^ np.uint64(1 << 63)).view(np.int64)


def global_order(ids: NDArray[np.bytes_], seed: int) -> NDArray[np.int64]:
    """Positions of the rows in the global order, by (key, example_id). Raises DuplicateError on equal ids."""
    keys = order_key(ids, seed)
    order = np.lexsort((ids, keys))
    check_distinct(ids[order], lambda place: f"row {order[place]}")
    return order


def check_distinct(ordered: NDArray[np.bytes_], name: Callable[[int], str]) -> None:
    """Raises DuplicateError, naming both rows by `name(place)`, where two neighbours have one id."""
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    if same.size:
        place = int(same[0])
        raise duplicate_error(ordered[place].decode(), [name(place), name(place + 1)])


def duplicate_error(example_id: str, rows: Sequence[str]) -> DuplicateError:
    """The error for rows that share an id."""
    return DuplicateError(
        f"an example_id must name one row, {example_id} names these: {' and '.join(rows)}; "
        "check that quality.event_key tells these events apart"
    )


def _halves(ids: NDArray[np.bytes_]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The upper and lower 64 bits of each id."""
    if ids.dtype != np.dtype(f"S{ID_LENGTH}"):
        raise ThawError(f"an example_id must have {ID_LENGTH} hexadecimal digits, got dtype {ids.dtype}")
    digits = _DIGITS[np.ascontiguousarray(ids).view(np.uint8).reshape(-1, ID_LENGTH)]
    bad = np.flatnonzero((digits == 255).any(axis=1))
    if bad.size:
        raise ThawError(f"an example_id must have {ID_LENGTH} lower-case hexadecimal digits, got {ids[bad[0]]!r}")
    words = (digits[:, 0::2] << 4 | digits[:, 1::2]).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]
