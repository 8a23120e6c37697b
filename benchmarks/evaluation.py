"""Exact top-K retrieval: how near to the bare matrix product, and beside Faiss and a partition of whole rows?

100,000 users x 50,000 items of 64 dimensions, seeded and of length 1, the 100 best of each. The bare product computes
every score in blocks and keeps none: no exact method that multiplies can be faster. `partition` is numpy's own way:
np.partition over whole rows. `faiss_flat` is IndexFlatIP. The lists of the first 2,000 users are compared before any
time counts: the same scores within 1e-6, and the same items wherever scores do not tie. Then every method takes turns,
and its best of ROUNDS counts. The peak is of this process, with all results in memory.

USERS=20000 takes fewer users, ROUNDS=1 fewer turns.
"""

import os
import resource
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from benchmarks._report import report
from pipelines.retrieval.top_k import top_k

USERS, ITEMS, DIMENSION, K = int(os.environ.get("USERS", "100000")), 50_000, 64, 100
ROUNDS = int(os.environ.get("ROUNDS", "2"))
BLOCK = 512
"""Rows of the bare product's blocks: the fastest of 128 to 2,048."""
CHECKED = 2_000
SEARCHED, PARTITIONED = 20_000, 2_000
"""Faiss and np.partition are slower: they take so many users, and their rates are of those."""


def vectors(rows: int, seed: int) -> np.ndarray:
    """Seeded directions, shape (rows, DIMENSION)."""
    drawn = np.random.default_rng(seed).standard_normal((rows, DIMENSION), np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def bare_product(users: np.ndarray, items: np.ndarray) -> None:
    """Every score, none kept."""
    transposed, space = np.ascontiguousarray(items.T), np.empty((BLOCK, len(items)), np.float32)
    for start in range(0, len(users), BLOCK):
        block = users[start : start + BLOCK]
        np.matmul(block, transposed, out=space[: len(block)])


def whole_rows(users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(items, scores) by np.argpartition over every row."""
    found = []
    for start in range(0, len(users), BLOCK):
        scores = users[start : start + BLOCK] @ items.T
        best = np.argpartition(scores, len(items) - K, axis=1)[:, -K:]
        values = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        found.append((np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)))
    return np.concatenate([i for i, _ in found]), np.concatenate([v for _, v in found])


def check_equal(name: str, ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> None:
    """Raise where two methods' lists differ by more than rounding and the order of ties."""
    (items, scores), (their_items, their_scores) = ours, theirs
    np.testing.assert_allclose(scores, their_scores, atol=1e-6, err_msg=f"{name}: other scores")
    gaps = np.diff(scores, axis=1, prepend=np.inf, append=-np.inf)
    alone = (np.abs(gaps[:, :-1]) > 1e-5) & (np.abs(gaps[:, 1:]) > 1e-5)
    alone[:, -1] = False  # the next score is not known
    if not (items == their_items)[alone].all():
        raise SystemExit(f"{name}: other items")


def main() -> None:
    """Check, time, print."""
    users, items = vectors(USERS, 1), vectors(ITEMS, 2)
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(items)

    def by_faiss(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, found = index.search(asked, K)
        return found, scores

    few = users[:CHECKED]
    ours = top_k(few, items, K)
    check_equal("partition", ours, whole_rows(few, items))
    check_equal("faiss_flat", ours, by_faiss(few))

    methods: dict[str, tuple[int, Callable[[np.ndarray], object]]] = {
        "thaw": (USERS, lambda asked: top_k(asked, items, K)),
        "bare_product": (USERS, lambda asked: bare_product(asked, items)),
        "faiss_flat": (SEARCHED, by_faiss),
        "partition": (PARTITIONED, lambda asked: whole_rows(asked, items)),
    }
    best = dict.fromkeys(methods, 0.0)
    for _ in range(ROUNDS):
        for name, (count, run) in methods.items():
            asked = users[:count]
            started = time.perf_counter()
            run(asked)
            best[name] = max(best[name], len(asked) / (time.perf_counter() - started))
            if name == "thaw" and "peak_gib" not in best:
                best["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    peak = best.pop("peak_gib")
    ratios = {name: round(best["thaw"] / rate, 3) for name, rate in best.items() if name != "thaw"}
    rows = [[name, rate, round(rate * ITEMS / 1e6), ratios.get(name, "")] for name, rate in best.items()]
    print(f"peak resident memory {peak:.2f} GiB")
    report(
        "evaluation",
        ("method", "users/s", "million scores/s", "Thaw is faster by"),
        rows,
        ratios=ratios,
        figures={"peak_gib": round(peak, 2), **{f"{name}_users_per_s": round(rate) for name, rate in best.items()}},
    )


if __name__ == "__main__":
    main()
