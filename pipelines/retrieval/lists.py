"""Each user's list, by the configured way of finding it, and what that way misses."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.config import RecommendOptions
from pipelines.retrieval.index import build_index, index_bytes, recall, search, seen_of_some
from pipelines.retrieval.top_k import Floats, Ints, Seen, top_k


@dataclass(frozen=True)
class Lists:
    """Item indices (n, k), -1 where a list ends, and their cosines; with an index, its bytes and what it found."""

    indices: Ints
    cosines: Floats
    index: bytes | None = None
    found: dict[str, Any] | None = None
    """kind, recall of the exact lists, and the number of sampled users."""


def best_lists(users: Floats, items: Floats, options: RecommendOptions, seen: Seen | None, seed: int) -> Lists:
    """The `k` best items of each user. Embeddings are (n, d) and (m, d)."""
    if options.index.kind == "exact":
        return Lists(*top_k(users, items, options.k, seen))
    index = build_index(items, options.index, seed)
    indices, cosines = search(index, items, users, options.k, seen)
    some = np.sort(np.random.default_rng(seed).permutation(len(users))[: options.index.sample])
    exact, _ = top_k(users[some], items, options.k, seen_of_some(seen, some, len(users)) if seen else None)
    share = recall(indices[some], exact)
    told = {"kind": options.index.kind, "recall": None if np.isnan(share) else round(share, 4), "sampled": len(some)}
    return Lists(indices, cosines, index_bytes(index), told)
