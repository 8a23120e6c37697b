"""The co-occurrence baseline: items that the same users said yes to, without any content. [numpy, scipy]

After Sarwar et al. (WWW 2001) and Deshpande and Karypis (2004): hard to beat where items have a history, and blind to
those that have none.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse  # type: ignore[import-untyped]

from pipelines.evaluation.metrics import Ints
from pipelines.evaluation.rankers import as_of_codes
from pipelines.evaluation.timeline import History, codes

NEIGHBOURS = 100
"""Kept of each item: those farther away are mostly chance."""
_BLOCK_PAIRS = 5_000_000
"""Co-occurrences counted at a time."""


class ItemKnn:
    """Sum of an item's similarity to each of the user's positives that the clock knows.

    Similarity is the cosine of the two items' sets of users, from what was known at `fitted_at` alone.
    """

    def __init__(self, history: History, fitted_at: int, neighbours: int = NEIGHBOURS) -> None:
        self._history = history
        users = np.arange(len(history.user_ids))
        self._similar = similar_items(pairs(history, users, np.full(len(users), fitted_at)), neighbours)

    def users(self, rows: pa.Table) -> Any:
        """The known positives, one column an item, each counted once."""
        users, clocks, which = as_of_codes(rows, self._history.user_ids)
        return pairs(self._history, users, clocks)[which]

    def items(self, rows: pa.Table) -> Any:
        """Each item's similarities to all items; a stranger has none."""
        found = codes(rows["item_id"], self._history.item_ids)
        known = sparse.diags((found >= 0).astype(np.float64))
        return known @ self._similar[np.maximum(found, 0)]


def pairs(history: History, users: Ints, clocks: Ints) -> Any:
    """CSR of 0 and 1, shape (questions, items): which items a user's clock knows a positive of."""
    owner, event = history.known(users, clocks)
    matrix = sparse.csr_matrix(
        (np.ones(len(owner)), (owner, history.items[event])), (len(users), len(history.item_ids))
    )
    matrix.data[:] = 1  # a second positive with one item is no second item
    return matrix


def similar_items(pairs: Any, neighbours: int) -> Any:
    """CSR (items, items): cosines of co-occurrence, of each row the `neighbours` largest; the diagonal is empty.

    Equal cosines are kept in item order.
    """
    counts = np.asarray(pairs.sum(axis=0)).ravel()
    scaled = (pairs @ sparse.diags(1 / np.sqrt(np.maximum(counts, 1)))).tocsc()
    by_item = scaled.T.tocsr()
    # A row of the product holds at most as many values as its users have positives.
    sizes = pairs.T @ np.asarray(pairs.sum(axis=1)).ravel()
    ends = np.searchsorted(np.cumsum(sizes), np.arange(0, sizes.sum(), _BLOCK_PAIRS), "right")
    bounds = np.unique([0, *ends, len(counts)])
    blocks = [_nearest(by_item[start:stop] @ scaled, start, neighbours) for start, stop in pairwise(bounds)]
    return sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((len(counts), len(counts)))


def _nearest(products: Any, first: int, neighbours: int) -> Any:
    """The largest of each row of a block whose first row is item `first`, without the item itself."""
    found = products.tocoo()
    other = found.row + first != found.col
    row, column, value = found.row[other], found.col[other], found.data[other]
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    near = np.arange(len(row)) - np.searchsorted(row, row) < neighbours
    return sparse.csr_matrix((value[near], (row[near], column[near])), products.shape)
