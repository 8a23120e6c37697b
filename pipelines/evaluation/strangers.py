"""What a ranker that needs a user's history does with a user who has none: shows what is popular. [numpy, scipy]"""

from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse  # type: ignore[import-untyped]

from pipelines.evaluation.metrics import Floats
from pipelines.evaluation.rankers import Popularity, Ranker, Vectors


class ForStrangers:
    """Another ranker, with a last column: 1 for users of whose vector nothing is known, popularity for items."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker, self._popularity = ranker, Popularity()

    def users(self, rows: pa.Table) -> Vectors:
        """The ranker's vectors, and whether they are empty."""
        vectors = self._ranker.users(rows)
        known = np.diff(vectors.indptr) > 0 if sparse.issparse(vectors) else vectors.any(axis=1)
        return _with_column(vectors, (~known).astype(np.float64))

    def items(self, rows: pa.Table) -> Vectors:
        """The ranker's vectors, and popularity squeezed into (-1, 1)."""
        popularity = self._popularity.items(rows)[:, 0]
        return _with_column(self._ranker.items(rows), popularity / (1 + np.abs(popularity)))


def _with_column(vectors: Any, last: Floats) -> Vectors:
    if sparse.issparse(vectors):
        return sparse.hstack([vectors, sparse.csr_matrix(last[:, None])], format="csr")
    return np.concatenate([vectors, last[:, None]], axis=1)
