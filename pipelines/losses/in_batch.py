"""Which items of the batch each row meets: a window of other rows, or all of them.

They stand for the catalogue only because records are shuffled globally.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops
from keras import random as keras_random

from pipelines.config import LossOptions


@dataclass(frozen=True)
class InBatch:
    """k items for each of n rows."""

    dots: Callable[[Any, Any], Any]
    """(n, d) user and item vectors -> (n, k): row i's user with each item that row i meets."""
    of_items: Callable[[Any], Any]
    """(n,) of each row's item -> (n, k), or (1, k) where all rows meet the same."""


def in_batch(rows: Any, options: LossOptions, seed: Any) -> InBatch:
    """What `options.in_batch` says, for a batch of `rows`."""
    if options.in_batch == "all":
        return InBatch(
            dots=lambda user, item: ops.matmul(user, ops.transpose(item)),
            of_items=lambda values: ops.expand_dims(values, 0),
        )
    return _window(rows, options.num_negatives, seed)


def _window(rows: Any, most: int, seed: Any) -> InBatch:
    """Each block of k rows meets k consecutive rows elsewhere, `shift` on, the batch being a circle.

    A shift from k to n - k keeps a row from its own block and from meeting one row twice, so k is at most n / 2. One
    product of blocks does the work of k products of rows shifted by k distances, and every row is met as often
    where k divides n.
    """
    size = _least(most, _largest(rows // 2, 1))
    blocks = (rows + size - 1) // size
    room = _largest(rows - 2 * size, 0) + 1
    shift = size + keras_random.randint((), 0, room, dtype="int32", seed=seed)

    def blocked(values: Any, start: Any) -> Any:
        tail = ops.shape(values)[1:]
        # Slices of the doubled batch: gathered rows would have a scatter for their gradient.
        twice = ops.concatenate([values, values], axis=0)
        cut = ops.slice(twice, (start, *(0 for _ in tail)), (blocks * size, *tail))
        return ops.reshape(cut, (blocks, size, *tail))

    def dots(user: Any, item: Any) -> Any:
        products = ops.matmul(blocked(user, 0), ops.transpose(blocked(item, shift), (0, 2, 1)))
        return ops.reshape(products, (blocks * size, size))[:rows]

    def of_items(values: Any) -> Any:
        each = ops.expand_dims(blocked(values, shift), 1)
        return ops.reshape(ops.broadcast_to(each, (blocks, size, size)), (blocks * size, size))[:rows]

    return InBatch(dots, of_items)


def _least(first: Any, second: Any) -> Any:
    """The smaller of two sizes, known now or when the batch is there."""
    return min(first, second) if isinstance(first, int) and isinstance(second, int) else ops.minimum(first, second)


def _largest(first: Any, second: Any) -> Any:
    """The larger of two, likewise."""
    return max(first, second) if isinstance(first, int) and isinstance(second, int) else ops.maximum(first, second)
