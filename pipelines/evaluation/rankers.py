"""What is compared: the model and the baselines, behind one interface.

A ranker gives every user row and every item row a vector; the score is their inner product. Rows carry the columns of
`schemas/examples.py` as of their clock, and `past_positives`. How the places are counted is left to `ranking`.
"""

from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipelines.evaluation.metrics import Floats, Ints
from pipelines.evaluation.timeline import codes, column

Vectors = Any
"""A dense array or a scipy CSR matrix, shape (rows, dimensions)."""


_SPARSE_COST = 8
"""A multiplication of two sparse matrices costs about as many of a sparse and a dense one."""


class Ranker(Protocol):
    """Scores users against items by the inner product of their vectors."""

    def users(self, rows: pa.Table) -> Vectors:
        """Vectors of the rows' users at the rows' clocks."""
        ...

    def items(self, rows: pa.Table) -> Vectors:
        """Vectors of the rows' items, as they were."""
        ...


def dot(users: Vectors, items: Vectors) -> Any:
    """All scores, dense, shape (user rows, item rows)."""
    if isinstance(items, np.ndarray):
        return users @ items.T
    width = users.shape[1]
    met = np.bincount(users.indices, minlength=width) @ np.bincount(items.indices, minlength=width)
    if met * _SPARSE_COST < items.nnz * users.shape[0]:
        return np.ascontiguousarray((items @ users.T.tocsr()).toarray().T)
    # Sparse items times dense users is the product that streams through memory.
    return np.ascontiguousarray((items @ np.ascontiguousarray(users.toarray().T)).T)


def dot_pairs(users: Vectors, items: Vectors) -> Any:
    """Scores of aligned rows, shape (rows,)."""
    if isinstance(items, np.ndarray):
        return np.einsum("nd,nd->n", users, items)
    return np.asarray(users.multiply(items).sum(axis=1)).ravel()


class Random:
    """Everything ties, and ties are broken by a seeded draw."""

    def users(self, rows: pa.Table) -> Floats:
        """Nothing is known."""
        return np.zeros((rows.num_rows, 1))

    def items(self, rows: pa.Table) -> Floats:
        """Nothing is known."""
        return np.zeros((rows.num_rows, 1))


class Popularity:
    """One order for everybody: a statistic of the item as of the clock, by default its number of past positives."""

    def __init__(self, statistic: str | None = None) -> None:
        self._column = statistic or "past_positives"

    def users(self, rows: pa.Table) -> Floats:
        """All alike."""
        return np.ones((rows.num_rows, 1))

    def items(self, rows: pa.Table) -> Floats:
        """The statistic; items without one come last."""
        values = rows.column(self._column).cast(pa.float64()).to_numpy()
        return np.nan_to_num(np.asarray(values, np.float64), nan=-1e30)[:, None]


class Towers:
    """A trained model; `content_only` has the same towers see every preference as missing."""

    def __init__(self, scorer: Any, *, content_only: bool = False) -> None:
        self._scorer, self._content_only = scorer, content_only

    def probabilities(self, scores: Any) -> Floats:
        """Of a click, from what `dot_pairs` gave."""
        return np.asarray(self._scorer.click_probabilities(scores + np.float32(self._scorer.bias)), np.float64)

    def users(self, rows: pa.Table) -> Any:
        """Embeddings times the learned scale, so that scores are logits but for the bias, which changes no order."""
        return self._embed("user", rows) * np.float32(self._scorer.scale)

    def items(self, rows: pa.Table) -> Any:
        """Embeddings."""
        return self._embed("item", rows)

    def _embed(self, side: str, rows: pa.Table) -> Any:
        return self._scorer.embed(side, rows, missing_preference=self._content_only)


class Planted:
    """Generated data only: the vectors whose inner product is the true score. Nothing can rank better."""

    def __init__(self, users: pa.Table, items: pa.Table) -> None:
        self._sides = {"user_id": _table_of(users), "item_id": _table_of(items)}

    def users(self, rows: pa.Table) -> Floats:
        """True tastes."""
        return self._vectors("user_id", rows)

    def items(self, rows: pa.Table) -> Floats:
        """True properties."""
        return self._vectors("item_id", rows)

    def _vectors(self, name: str, rows: pa.Table) -> Floats:
        ids, vectors = self._sides[name]
        return vectors[codes(rows[name], ids)]


def _table_of(truth: pa.Table) -> tuple[pa.Array, Floats]:
    """Ids and vectors, with a last row of zeros that an unknown id (code -1) falls on."""
    vectors = np.array(truth["vector"].to_pylist(), np.float64)
    return truth["id"].combine_chunks(), np.concatenate([vectors, np.zeros((1, vectors.shape[1]))])


def as_of_codes(rows: pa.Table, user_ids: pa.Array) -> tuple[Ints, Ints, Ints]:
    """Distinct (user, clock) of the rows: (user codes, clocks, which one each row is)."""
    pairs = np.stack([codes(rows["user_id"], user_ids), column(rows, "as_of")], axis=1)
    distinct, which = np.unique(pairs, axis=0, return_inverse=True)
    return distinct[:, 0], distinct[:, 1], which.ravel()
