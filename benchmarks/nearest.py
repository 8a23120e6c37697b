"""How fast is the exact search of nearest neighbours, beside scikit-learn's brute force?

60,000 rows as of Fashion-MNIST (784 bytes each: ten classes' means with noise, so that anyone can run it) and 10,000
queries, Euclidean distance, K nearest, float32, all cores. Ours: `NearestNeighbours` from arrays to neighbours. The
peer, `sklearn_brute`: `NearestNeighbors(algorithm="brute")`, `fit` and `kneighbors`. Before anything is timed the exact
distances of what both found are compared, which differ where distances tie or float32 cannot tell them apart, and then
by no more than that. QUERIES=1000 makes a smaller one.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors  # type: ignore[import-untyped]

from benchmarks._report import report
from pipelines.models.nearest import NearestNeighbours

ROWS, PIXELS, CLASSES, K, REPEATS = 60_000, 784, 10, 5, 3
QUERIES = int(os.environ.get("QUERIES", "10000"))


def images() -> tuple[Any, Any, Any]:
    """Rows, their labels, queries: float32 whole numbers from 0 to 255."""
    draw = np.random.default_rng(7)
    means = draw.uniform(0, 255, (CLASSES, PIXELS))
    labels = draw.integers(0, CLASSES, ROWS + QUERIES)
    pixels = np.clip(means[labels] + draw.normal(0, 60, (len(labels), PIXELS)), 0, 255).round().astype(np.float32)
    return pixels[:ROWS], labels[:ROWS], pixels[ROWS:]


def exact(queries: Any, rows: Any, found: Any) -> Any:
    """(queries, K) squared distances of what was found, in whole numbers, in ascending order."""
    parts = []
    for start in range(0, len(queries), 1000):
        apart = queries[start : start + 1000, None].astype(np.int64) - rows[found[start : start + 1000]].astype(
            np.int64
        )
        parts.append(np.sort((apart**2).sum(axis=2), axis=1))
    return np.concatenate(parts)


def seconds(search: Callable[[], Any]) -> float:
    """Of one search."""
    started = time.monotonic()
    search()
    return time.monotonic() - started


def main() -> None:
    """Compare, time in turn, print."""
    rows, labels, queries = images()

    def ours() -> Any:
        return NearestNeighbours(rows, labels, CLASSES, k=K, distance="l2").neighbours(queries, K)

    def theirs() -> Any:
        return NearestNeighbors(n_neighbors=K, algorithm="brute").fit(rows).kneighbors(queries, return_distance=False)

    mine, its = ours(), theirs()
    same = float((mine == its).all(axis=1).mean())
    np.testing.assert_allclose(exact(queries, rows, mine), exact(queries, rows, its), rtol=1e-6)
    assert same > 0.99, same
    times = [(seconds(ours), seconds(theirs)) for _ in range(REPEATS)]
    our_s, their_s = (sorted(some)[REPEATS // 2] for some in zip(*times, strict=True))
    report(
        "nearest",
        ["what", "rows", "queries", "seconds", "queries/s"],
        [
            ["ours (Faiss)", ROWS, QUERIES, our_s, QUERIES / our_s],
            ["scikit-learn, brute force", ROWS, QUERIES, their_s, QUERIES / their_s],
        ],
        ratios={"sklearn_brute": round(their_s / our_s, 3)},
        figures={"same_order": round(same, 5), "queries_per_s": round(QUERIES / our_s)},
    )
