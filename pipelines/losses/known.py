"""Which pairs of user and item are known positives, so that no loss takes them for negatives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipelines.losses.hashed import hashed
from pipelines.losses.keys import found_at, key_type, narrowed, pair_key

MAX_OF_USER = 256
"""Where every pair of a batch is judged, as many positives of a user are looked at: memory is n times as much."""


@dataclass(frozen=True)
class KnownPositives:
    """Positive pairs, in the two ways in which they are looked up."""

    has: Callable[[Any], Any]
    """Whether keys, of any shape, are `pair_key`s of positives."""
    users: Any
    """(p,) the user of each, ascending."""
    items: Any
    """(p,) the item of each, in the order of `users`."""
    most: int
    """Positives of a user to look at: the largest number that one has, at most MAX_OF_USER."""

    def among(self, user_key: Any, item_key: Any) -> Any:
        """Whether pairs are known: keys of one shape, or of shapes that broadcast."""
        return self.has(pair_key(user_key, item_key))

    def between(self, user_key: Any, item_key: Any) -> Any:
        """(n, n) whether row i's user has a known positive with row j's item.

        Not n² look-ups but n for each positive of a user: they are looked for among the batch's items.
        """
        rows = ops.shape(item_key)[0]
        ordered = ops.sort(item_key)
        first = ops.expand_dims(ops.searchsorted(self.users, user_key, side="left"), 1)
        end = ops.expand_dims(ops.searchsorted(self.users, user_key, side="right"), 1)
        place = ops.cast(first, "int32") + ops.arange(self.most, dtype="int32")
        liked = ops.take(self.items, ops.minimum(place, ops.shape(self.items)[0] - 1), axis=0)
        column, there = found_at(ordered, liked)
        there = ops.logical_and(there, place < ops.cast(end, "int32"))
        # What is not there goes to a column of its own, which is cut off.
        column = ops.where(there, column, rows)
        flat = ops.expand_dims(ops.arange(rows, dtype="int32"), 1) * (rows + 1) + column
        marks = ops.scatter(ops.reshape(flat, (-1, 1)), ops.ones((rows * self.most,), "int32"), (rows * (rows + 1),))
        marked = ops.reshape(marks, (rows, rows + 1)) > 0
        return ops.take(marked, found_at(ordered, item_key)[0], axis=1)


def known_positives(user_key: NDArray[np.int64], item_key: NDArray[np.int64]) -> KnownPositives:
    """Of the positive rows' keys, at least one, as constants."""
    users, items = narrowed(user_key), narrowed(item_key)
    order = np.argsort(users, kind="stable")
    most = int(np.unique(users, return_counts=True)[1].max())
    return KnownPositives(
        hashed(narrowed(pair_key(user_key, item_key))).has,
        ops.convert_to_tensor(users[order]),
        ops.convert_to_tensor(items[order]),
        min(most, MAX_OF_USER),
    )


def positives_of(user_key: Any, item_key: Any, positive: Any) -> KnownPositives:
    """Those that a batch itself has; each of (n,)."""
    # Rows that are no positives sort behind all keys, which are hashes: none of them is likely to be the largest.
    largest = ops.convert_to_tensor(np.array(np.iinfo(key_type()).max, key_type()))
    users = ops.where(positive, user_key, largest)
    order = ops.argsort(users)
    pairs = ops.sort(ops.where(positive, pair_key(user_key, item_key), largest))
    return KnownPositives(
        lambda keys: found_at(pairs, keys)[1],
        ops.take(users, order, axis=0),
        ops.take(item_key, order, axis=0),
        MAX_OF_USER,
    )
