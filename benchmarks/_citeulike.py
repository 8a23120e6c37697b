"""CiteULike for the reproductions: its files, its splits, and recall over the whole catalogue. [numpy, scipy]

A split is one matrix to learn from and one to be tested on. `fold` cuts a split's training part into a smaller split of
the same form: what is chosen (epochs, rates, widths) is chosen there, and the test pairs are scored once, at the end.
Baselines are left to `_citeulike_baselines`, the towers to `_citeulike_towers`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-untyped]

from pipelines.evaluation.content_knn import unit_rows

Floats = npt.NDArray[np.floating[Any]]
Scores = Callable[[int, int], Floats]
"""(first user, last) -> scores of these users with every item, (users, items)."""
HIDDEN_SHARE = 0.2
"""Of each item's pairs, rounded down (warm), or of the items (cold): so it is, exactly, in the published splits."""
KS = (20, 100)
_BLOCK = 512


@dataclass(frozen=True)
class Split:
    """Users × items, 1 where the user has the item."""

    name: str
    """`warm`: some pairs of every item are hidden; `cold`: every pair of some items is."""
    train: Any
    test: Any
    candidates: npt.NDArray[np.int64]
    """The items that are ranked: all (warm), the hidden ones (cold)."""


@dataclass(frozen=True)
class Articles:
    """What is known of the items themselves: CSR, one row an item."""

    tags: Any
    citations: Any
    """Symmetric, with 1 on the diagonal."""
    words: Any = None
    """Counts, where there are any."""


def lists(path: Path) -> list[npt.NDArray[np.int64]]:
    """Each line's numbers after the first, which is how many there are."""
    with path.open() as lines:
        return [np.array(line.split()[1:], np.int64) for line in lines]


def incidence(rows: list[npt.NDArray[np.int64]], columns: int) -> Any:
    """CSR with 1 at (row, each number of its list)."""
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    matrix = sparse.csr_matrix((np.ones(len(owner)), (owner, np.concatenate(rows))), (len(rows), columns))
    matrix.data[:] = 1
    return matrix


def read_articles(folder: Path) -> Articles:
    """Tags, citations and, where the set has them, words."""
    cited = lists(folder / "citations.dat")
    citations = incidence(cited, len(cited))
    linked = sparse.csr_matrix(citations + citations.T + sparse.identity(len(cited)))
    linked.data[:] = 1
    tag_count = sum(1 for _ in (folder / "tags.dat").open("rb"))
    if (folder / "item-tag.dat").exists():
        return Articles(incidence(lists(folder / "item-tag.dat"), tag_count), linked)
    tags = incidence(lists(folder / "tag-item.dat"), len(cited)).T.tocsr()
    return Articles(tags, linked, read_words(folder / "mult.dat"))


def read_words(path: Path) -> Any:
    """Lines of `n word:count …` as CSR."""
    with path.open() as lines:
        found = [[pair.split(":") for pair in line.split()[1:]] for line in lines]
    owner = np.repeat(np.arange(len(found)), [len(row) for row in found])
    pairs = np.array([pair for row in found for pair in row], np.int64).reshape(-1, 2)
    return sparse.csr_matrix((pairs[:, 1].astype(float), (owner, pairs[:, 0])))


def read_pairs(folder: Path) -> Any:
    """Every user's items."""
    rows = lists(folder / "users.dat")
    return incidence(rows, len(lists(folder / "citations.dat")))


def pair_matrix(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], shape: tuple[int, int]) -> Any:
    """CSR with 1 at each pair, columns ascending in a row."""
    matrix = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
    matrix.sort_indices()
    return matrix


def published_split(folder: Path, name: str, shape: tuple[int, int]) -> Split:
    """The split of Volkovs, Yu and Poutanen (DropoutNet, NIPS 2017). Its files count from 1."""
    files = folder / "dropoutnet-split" / "eval" / name

    def pairs(file: str) -> Any:
        users, items, _ = np.loadtxt(files / file, np.int64, delimiter=",").T - 1
        return pair_matrix(users, items, shape)

    ranked = np.sort(np.loadtxt(files / "test_item_ids.csv", np.int64) - 1)
    return Split(name, pairs("train.csv"), pairs("test.csv"), ranked)


def seeded_split(pairs: Any, name: str, seed: int, among: npt.NDArray[np.int64] | None = None) -> Split:
    """Hide HIDDEN_SHARE of each item's pairs (`warm`), or of the items `among` all their pairs (`cold`), by seed."""
    generator = np.random.default_rng([seed, ["warm", "cold"].index(name)])
    coo = pairs.tocoo()
    if name == "warm":
        counts = pairs.getnnz(axis=0)
        by_item = np.lexsort((generator.random(len(coo.col)), coo.col))
        first = (np.cumsum(counts) - counts)[coo.col[by_item]]
        hidden = np.zeros(len(coo.col), bool)
        hidden[by_item] = np.arange(len(coo.col)) - first < np.floor(HIDDEN_SHARE * counts)[coo.col[by_item]]
        candidates = np.arange(pairs.shape[1]) if among is None else among
    else:
        known = np.flatnonzero(pairs.getnnz(axis=0)) if among is None else among
        candidates = np.sort(generator.permutation(known)[: round(HIDDEN_SHARE * len(known))])
        hidden = np.isin(coo.col, candidates)

    def part(rows: npt.NDArray[np.bool_]) -> Any:
        return pair_matrix(coo.row[rows], coo.col[rows], pairs.shape)

    return Split(name, part(~hidden), part(hidden), candidates)


def fold(split: Split, seed: int) -> Split:
    """A smaller split of the same kind, cut from the training part alone."""
    known = np.flatnonzero(split.train.getnnz(axis=0)) if split.name == "cold" else split.candidates
    return seeded_split(split.train, split.name, seed, known)


def dot_scores(users: Floats, items: Floats) -> Scores:
    """Inner products, users (n, d) and items (m, d)."""
    transposed = np.ascontiguousarray(items.T)
    return lambda start, stop: users[start:stop] @ transposed


def measure(scores: Scores, split: Split, seed: int) -> dict[str, npt.NDArray[np.float64]]:
    """`recall@k` and `ndcg@k` of every user with test pairs, each an array over these users in order.

    Recall@k: the share of the user's test items among the first k of the candidates, without the items of the user's
    training pairs (Volkovs, Yu and Poutanen 2017, §5.1). Equal scores come in an order drawn by `seed`.
    """
    order = np.random.default_rng([seed, len(split.candidates)]).permutation(split.candidates)
    train, test = split.train[:, order].tocsr(), split.test[:, order].tocsr()
    asked = np.flatnonzero(test.getnnz(axis=1))
    most = min(max(KS), len(order))
    discount = 1 / np.log2(np.arange(2, most + 2))
    ideal = np.r_[0, np.cumsum(discount)]
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    for start in range(0, test.shape[0], _BLOCK):
        rows = asked[(asked >= start) & (asked < start + _BLOCK)] - start
        block = np.asarray(scores(start, min(start + _BLOCK, test.shape[0])))[rows][:, order]
        block[train[rows + start].nonzero()] = -np.inf
        hits = np.take_along_axis(test[rows + start].toarray(), best(block, most), axis=1)
        relevant = test[rows + start].getnnz(axis=1)
        for k in KS:
            found.setdefault(f"recall@{k}", []).append(hits[:, :k].sum(axis=1) / relevant)
            gained = hits[:, :k] @ discount[: min(k, most)]
            found.setdefault(f"ndcg@{k}", []).append(gained / ideal[np.minimum(relevant, min(k, most))])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def best(scores: Floats, k: int) -> npt.NDArray[np.int64]:
    """Columns of each row's `k` largest values, best first; equal values in column order."""
    kept = np.partition(scores, -k, axis=1)[:, -k]
    rows, columns = np.nonzero(scores >= kept[:, None])
    order = np.lexsort((columns, -scores[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return columns[place < k].reshape(len(scores), k)


def tfidf(matrix: Any) -> Any:
    """Counts to unit rows weighted by log(rows / rows with the column)."""
    frequency = np.maximum(matrix.getnnz(axis=0), 1)
    return unit_rows(matrix @ sparse.diags(np.log(matrix.shape[0] / frequency)))
