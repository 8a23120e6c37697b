"""Approximate nearest neighbours by Faiss, for catalogues that are too large to read whole for every user.

What is found is ranked exactly, but some of the best may be missed: `recall` says how many, beside exact `top_k`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss as _faiss
import numpy as np

from pipelines.config import IndexOptions
from pipelines.retrieval.top_k import Floats, Ints, Seen, top_k

faiss: Any = _faiss
"""Its generated stubs lack half of it."""

_TRAINED = 256
"""Items a cell that IVF's k-means looks at: Faiss's own limit."""


def build_index(items: Floats, options: IndexOptions, seed: int) -> Any:
    """A Faiss index of `items` (m, d) by inner product. Same items, same options, same seed: the same index.

    HNSW is the graph of Malkov and Yashunin (2018), IVF an inverted file over k-means cells (Jégou et al. 2011).
    """
    with _one_thread():  # with several, the graph depends on which comes first
        if options.kind == "hnsw":
            index = faiss.IndexHNSWFlat(items.shape[1], options.links, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = options.construction
            index.hnsw.efSearch = options.search
        else:
            cells = min(options.cells or max(1, round(4 * len(items) ** 0.5)), max(1, len(items)))
            index = faiss.IndexIVFFlat(
                faiss.IndexFlatIP(items.shape[1]), items.shape[1], cells, faiss.METRIC_INNER_PRODUCT
            )
            index.cp.seed, index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = seed, 1, _TRAINED
            index.nprobe = min(options.probes, cells)
            if len(items):
                index.train(np.ascontiguousarray(items, np.float32))
        if len(items):
            index.add(np.ascontiguousarray(items, np.float32))
    return index


def index_bytes(index: Any) -> bytes:
    """What `faiss.read_index` reads."""
    return bytes(faiss.serialize_index(index).tobytes())


def search(index: Any, items: Floats, users: Floats, k: int, seen: Seen | None = None) -> tuple[Ints, Floats]:
    """As `top_k`, by an index of the same `items`; nothing is missing from a list that was there to be found.

    A user who has seen s items is asked k + s for; one whose list is short all the same is ranked exactly.
    """
    k, m = min(k, len(items)), len(items)
    indices, scores = np.full((len(users), k), -1, np.int64), np.full((len(users), k), -np.inf, np.float32)
    if k == 0 or not len(users):
        return indices, scores
    rows, left_out = seen(0, len(users)) if seen else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    barred = np.unique(rows * m + left_out)
    counts = np.bincount(barred // m, minlength=len(users))
    # Users of about as many seen items are asked together, so that one who has seen most costs the others nothing.
    asked = np.minimum(m, k + np.where(counts > 0, 2 ** np.ceil(np.log2(np.maximum(counts, 1))), 0).astype(np.int64))
    for width in np.unique(asked):
        who = np.flatnonzero(asked == width)
        values, found = index.search(
            np.ascontiguousarray(users[who], np.float32), int(width), params=_deep(index, width)
        )
        bad = (found < 0) | np.isin(who[:, None] * m + found, barred)
        order = np.lexsort((found, -values, bad), axis=1)[:, :k]
        good = ~np.take_along_axis(bad, order, axis=1)
        indices[who] = np.where(good, np.take_along_axis(found, order, axis=1), -1)
        scores[who] = np.where(good, np.take_along_axis(values, order, axis=1), -np.inf)
    short = np.flatnonzero((indices >= 0).sum(axis=1) < np.minimum(k, m - counts))
    if len(short):
        indices[short], scores[short] = top_k(users[short], items, k, seen and seen_of_some(seen, short, len(users)))
    return indices, scores


def recall(found: Ints, exact: Ints) -> float:
    """The share of the exact lists, (n, k) with -1 for none, that is in the found ones; NaN where they are empty."""
    there = exact >= 0
    hits = sum(np.isin(mine[ok], theirs).sum() for mine, theirs, ok in zip(exact, found, there, strict=True))
    return float(hits / there.sum()) if there.any() else float("nan")


def _deep(index: Any, width: int) -> Any:
    """Search parameters that can find as many as are asked for."""
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=max(index.hnsw.efSearch, int(width)))
    return None


def seen_of_some(seen: Seen, users: Ints, count: int) -> Seen:
    """What `seen` says of `count` users, for some of them alone: rows of `users`, ascending."""
    rows, items = seen(0, count)
    low, high = np.searchsorted(rows, users), np.searchsorted(rows, users, "right")

    def of_block(start: int, stop: int) -> tuple[Ints, Ints]:
        spans = list(zip(low[start:stop], high[start:stop], strict=True))
        mine = np.repeat(np.arange(len(spans)), [b - a for a, b in spans])
        return mine, np.concatenate([np.zeros(0, np.int64), *(items[a:b] for a, b in spans)])

    return of_block


@contextmanager
def _one_thread() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
