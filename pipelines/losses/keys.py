"""Sorted keys held as constants, and the look-up in them.

Keys are 63-bit hashes. JAX has integers of 32 bits unless told otherwise and keeps their lower halves: a look-up among
p keys then finds one that is not there with probability p / 2**32.
"""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

_PRIME = 0x9E3779B97F4A7C15
"""Odd, so that multiplying by it loses nothing; 2**64 over the golden ratio."""


@functools.cache
def key_type() -> str:
    """int64, or what the backend makes of it."""
    return str(keras.backend.standardize_dtype(ops.convert_to_tensor(np.zeros(1, "int64")).dtype))


def pair_key(user_key: Any, item_key: Any) -> Any:
    """One key of a user and an item, by arithmetic that wraps: its lower half follows from theirs."""
    factor = np.array([_PRIME], "uint64").view("int64")
    if not isinstance(user_key, np.ndarray):
        factor = ops.convert_to_tensor(factor.astype(key_type()))
    return user_key * factor + item_key


def narrowed(keys: NDArray[np.int64]) -> NDArray[Any]:
    """Keys as wide as the backend has them."""
    return keys.astype(key_type())


def found_at(ordered: Any, keys: Any) -> tuple[Any, Any]:
    """Where each of `keys` (any shape) is in `ordered` (p,), ascending and not empty, and whether it is there."""
    flat = ops.reshape(keys, (-1,))
    place = ops.minimum(ops.cast(ops.searchsorted(ordered, flat), "int32"), ops.shape(ordered)[0] - 1)
    there = ops.equal(ops.take(ordered, place, axis=0), flat)
    return ops.reshape(place, ops.shape(keys)), ops.reshape(there, ops.shape(keys))
