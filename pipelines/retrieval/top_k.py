"""Exact top-K by blocked matrix products: memory is bounded by a block a thread, whatever the number of users.

Selecting costs little beside the product. The columns of a block are dealt into groups, and only each group's largest
score is partitioned: the k-th largest of those is at most the k-th best score, because k groups reach it, so that no
item below it can be in the list and no group whose largest is below it needs a second look.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

BLOCK_SCORES = 1 << 22
"""Scores that a thread holds at once: 16 MiB of float32, which stays near the processor."""
GROUP = 8
"""Columns of a group: an eighth of the scores is partitioned."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Seen = Callable[[int, int], tuple[Ints, Ints]]
"""(start, stop) of users -> (row within the block, item) pairs to leave out."""


def top_k(
    users: Floats,
    items: Floats,
    k: int,
    seen: Seen | None = None,
    progress: Callable[[int], None] | None = None,
    threads: int | None = None,
) -> tuple[Ints, Floats]:
    """The `k` items of largest inner product for each user, best first; equal scores in item order.

    `users` is (n, d), `items` (m, d). `progress` is told how many users are done. `threads`: absent, one a core; the
    result does not depend on it. Returns item indices (n, k), -1 where a user has fewer than `k` items left, and inner
    products (n, k), -inf there. `k` may exceed the number of items: the lists are as long as the catalogue then.
    """
    k = min(k, len(items))
    indices = np.full((len(users), k), -1, np.int64)
    scores = np.full((len(users), k), -np.inf, np.float32)
    if k == 0 or not len(users):
        return indices, scores
    users = np.asarray(users, np.float32)
    transposed = np.ascontiguousarray(items.T, np.float32)
    block = max(1, BLOCK_SCORES // len(items))
    starts = iter(range(0, len(users), block))  # shared by the threads: taking the next one is atomic
    done, lock = 0, threading.Lock()

    def work() -> None:
        nonlocal done
        space = np.empty((min(block, len(users)), len(items)), np.float32)
        for start in starts:
            stop = min(start + block, len(users))
            product = np.matmul(users[start:stop], transposed, out=space[: stop - start])
            if seen is not None:
                product[seen(start, stop)] = -np.inf
            rows, columns, values = _best(product, k)
            position = np.arange(len(rows)) - np.searchsorted(rows, rows)
            good = (position < k) & (values > -np.inf)
            indices[start + rows[good], position[good]] = columns[good]
            scores[start + rows[good], position[good]] = values[good]
            if progress is not None:
                with lock:
                    done += stop - start
                    progress(done)

    workers = max(1, min(threads or (os.cpu_count() or 1), -(-len(users) // block)))
    # One thread a block beats many threads on one block: selecting runs beside multiplying.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        for running in [pool.submit(work) for _ in range(workers)]:
            running.result()
    return indices, scores


def _best(product: Floats, k: int) -> tuple[Ints, Ints, Floats]:
    """(rows, columns, scores) of at least the k best of each row, best first, equal scores in column order."""
    width = product.shape[1]
    groups = width // GROUP
    if groups < 2 * k:
        bound = np.partition(product, width - k, axis=1)[:, width - k]
        found = np.flatnonzero(product >= bound[:, None])
    else:
        # Group g holds the columns g, g + groups, …; a last few columns are in none, and always looked at.
        grouped = groups * GROUP
        largest = product[:, :grouped].reshape(len(product), GROUP, groups).max(axis=1)
        bound = np.partition(largest, groups - k, axis=1)[:, groups - k]
        row, group = np.divmod(np.flatnonzero(largest >= bound[:, None]), groups)
        members = (row * width + group)[:, None] + groups * np.arange(GROUP)
        ends = np.arange(len(product))[:, None] * width + np.arange(grouped, width)
        found = np.concatenate([members.ravel(), ends.ravel()])
        found = found[product.ravel().take(found) >= bound[found // width]]
    return _in_order(product, found)


def _in_order(product: Floats, found: Ints) -> tuple[Ints, Ints, Floats]:
    """Flat positions as (rows, columns, scores), in order of (row, score from the largest, column).

    All three lie in one integer, because sorting integers is several times faster than sorting by three keys.
    """
    width = product.shape[1]
    rows, columns = np.divmod(found, width)
    # A float's bits rise with it once a positive one's sign is set and a negative one is inverted. Adding 0 makes -0 0.
    bits = (product.ravel().take(found) + np.float32(0)).view(np.int32).astype(np.int64)
    rising = np.where(bits < 0, ~bits, bits + (1 << 31))
    shift = int(width).bit_length()
    keys = (rows << (32 + shift)) | (((1 << 32) - 1 - rising) << shift) | columns
    keys.sort()
    rows, columns = keys >> (32 + shift), keys & ((1 << shift) - 1)
    return rows, columns, product[rows, columns]
