"""A set of keys held as constants, of which two places are looked at to tell whether a key is in it.

A cuckoo table (Pagh and Rodler, Cuckoo hashing, J. Algorithms 2004): each key is at one of its two hashed places, so
what is found is exact. A search in sorted keys takes twenty steps that wait for one another, and on JAX a loop.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

FULL = 0.45
"""How much of a table is filled at most: of half and more, two places a key are not enough."""
TRIES = 4
"""Pairs of hashes that are tried before the table is doubled."""
ROUNDS = 100
"""Of moving keys, before a pair of hashes is given up."""


@dataclass(frozen=True)
class Hashed:
    """Keys of one integer type, and the two hashes that say where they are."""

    table: Any
    """(2**bits,) keys."""
    factors: tuple[int, ...]
    """Of the hashes."""
    bits: int

    def has(self, keys: Any) -> Any:
        """Whether each of `keys`, of any shape, is in the set."""
        width = 8 * np.dtype(self.table.dtype.name).itemsize

        def at(factor: int) -> Any:
            upper = ops.right_shift(keys * factor, width - self.bits)
            return ops.equal(ops.take(self.table, ops.bitwise_and(upper, (1 << self.bits) - 1), axis=0), keys)

        keys = ops.convert_to_tensor(keys)
        return ops.logical_or(at(self.factors[0]), at(self.factors[1]))


def hashed(keys: NDArray[Any]) -> Hashed:
    """Of int32 or int64 keys, at least one, in any order and as often as they come."""
    keys = np.unique(keys)
    # No seed asked for: what is found is the same whatever the hashes.
    draw = np.random.default_rng(0)
    bits = max(1, math.ceil(math.log2(len(keys) / FULL)))
    while True:
        for _ in range(TRIES):
            factors = tuple(int(factor) | 1 for factor in draw.integers(np.iinfo(keys.dtype).max, size=2))
            table = _placed(keys, [_place(keys, factor, bits) for factor in factors], bits)
            if table is not None:
                return Hashed(ops.convert_to_tensor(table), factors, bits)
        bits += 1


def _place(keys: NDArray[Any], factor: int, bits: int) -> NDArray[Any]:
    """Upper bits of a product that wraps (Dietzfelbinger et al., J. Algorithms 1997: multiply-shift)."""
    return (keys * factor >> (8 * keys.itemsize - bits)) & ((1 << bits) - 1)


def _placed(keys: NDArray[Any], places: list[NDArray[Any]], bits: int) -> NDArray[Any] | None:
    """The table, or None where some keys still push each other out after ROUNDS."""
    nobody = -1
    owner = np.full(1 << bits, nobody)
    moving, goal = np.arange(len(keys)), places[0]
    for _ in range(ROUNDS):
        before = owner[goal]
        owner[goal] = moving
        # Of several keys that go to one place the last one stays; the others move on, and so does who was there.
        lost = owner[goal] != moving
        out = ~lost & (before != nobody)
        moving, goal = np.append(moving[lost], before[out]), np.append(goal[lost], goal[out])
        if not len(moving):
            # A place that is left over holds a key of the set, which is at its own place as well.
            table: NDArray[Any] = keys[np.maximum(owner, 0)]
            return table
        goal = places[0][moving] ^ places[1][moving] ^ goal
    return None
