"""Exact top-K by blocked matrix products: memory is bounded by a block, whatever the number of users."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

BLOCK_SCORES = 1 << 25
"""Scores held at once: 128 MiB of float32."""


def top_k(
    users: npt.NDArray[np.float32],
    items: npt.NDArray[np.float32],
    k: int,
    seen: Callable[[int, int], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The `k` items of largest inner product for each user, best first; equal scores in item order.

    `users` is (n, d), `items` (m, d). `seen(start, stop)` gives (row within the block, item) pairs to leave out.
    `progress` is told the number of users done. Returns item indices (n, k), -1 where a user has fewer than `k`
    items left, and cosines (n, k).
    """
    k = min(k, len(items))
    indices = np.full((len(users), k), -1, np.int64)
    scores = np.full((len(users), k), -np.inf, np.float32)
    if k == 0:
        return indices, scores
    block = max(1, BLOCK_SCORES // len(items))
    transposed = np.ascontiguousarray(items.T)
    for start in range(0, len(users), block):
        stop = min(start + block, len(users))
        product = users[start:stop] @ transposed
        if seen is not None:
            product[seen(start, stop)] = -np.inf
        # The k-th best is a threshold; every item that ties with it stays in the running, so that item order decides.
        kept = np.partition(product, len(items) - k, axis=1)[:, len(items) - k]
        rows, columns = np.nonzero(product >= kept[:, None])
        values = product[rows, columns]
        order = np.lexsort((columns, -values, rows))
        rows, columns, values = rows[order], columns[order], values[order]
        position = np.arange(len(rows)) - np.searchsorted(rows, rows)
        good = (position < k) & (values > -np.inf)
        indices[start + rows[good], position[good]] = columns[good]
        scores[start + rows[good], position[good]] = values[good]
        if progress is not None:
            progress(stop)
    return indices, scores
