"""Baselines of reference factors: implicit ALS for what has a history, and a ridge map from content for what has none.

Items have vectors fitted on the training period alone. A user's vector is solved anew from the positives that the clock
knows, so that no later event and no stale vector is in it. Fitting the items' vectors is left to `compute_factors`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.linear_model import Ridge

from pipelines.errors import WorkspaceError
from pipelines.evaluation.content_knn import ContentSpace
from pipelines.evaluation.metrics import Floats
from pipelines.evaluation.rankers import as_of_codes
from pipelines.evaluation.timeline import History, Timeline, codes, column
from pipelines.retrieval.factors import Factors, solved
from pipelines.storage import Dataset

RIDGE = 1.0
"""Penalty of the map from content, whose rows have length 1."""


@dataclass(frozen=True)
class ItemFactors:
    """Item vectors of an implicit factor model, and what its least squares weigh by."""

    ids: pa.Array
    vectors: Floats
    """Shape (items, rank)."""
    alpha: float
    regularisation: float

    @classmethod
    def read(cls, factors: Dataset, fitted_by: int) -> "ItemFactors":
        """The published dataset `factors`. Raises WorkspaceError where it was fitted on events after `fitted_by`."""
        fitted = Factors.read(factors)
        if fitted.until > fitted_by:
            raise WorkspaceError(
                f"factors must be fitted on the training period alone, these were until {fitted.until} us, and "
                f"validation starts at {fitted_by} us; set factors.until earlier, and run `thaw compute_factors`"
            )
        vectors = fitted.vectors["item"].astype(np.float64)
        return cls(fitted.ids["item"], vectors, fitted.alpha, fitted.regularisation)

    def of(self, ids: pa.ChunkedArray | pa.Array) -> Floats:
        """(n,) ids -> (n, rank); zeros where an item has no vector."""
        found = codes(ids, self.ids)
        return np.where((found >= 0)[:, None], self.vectors[np.maximum(found, 0)], 0.0)


class Als:
    """Implicit alternating least squares (Hu, Koren and Volinsky, ICDM 2008).

    A user's vector is equation 4 on the n known positives: (YᵀY + alpha·Σyyᵀ + regularisation·n·I)⁻¹ (1 + alpha)·Σy.
    Users without such positives, and items without a vector, have zeros.
    """

    def __init__(self, factors: ItemFactors, history: History) -> None:
        self._factors, self._history = factors, history
        self._by_code = factors.of(history.item_ids)
        self._gram = factors.vectors.T @ factors.vectors

    def users(self, rows: pa.Table) -> Floats:
        """Solved once for every distinct (user, clock)."""
        users, clocks, which = as_of_codes(rows, self._history.user_ids)
        owner, event = self._history.known(users, clocks)
        items = self._history.items[event]
        liked = np.stack([owner, items], axis=1)[self._by_code[items].any(axis=1)]
        fitted = self._factors
        vectors = solved(self._gram, self._by_code, liked, len(users), fitted.alpha, fitted.regularisation)
        vectors[np.isnan(vectors)] = 0
        return vectors[which]

    def items(self, rows: pa.Table) -> Floats:
        """Fitted vectors."""
        return self._factors.of(rows["item_id"])


class ContentToFactors:
    """Users as by ALS; items by a ridge map from content to the vectors of items that have some.

    The map (Gantner et al., ICDM 2010, by least squares) is fitted on the content valid at `fitted_at`.
    """

    def __init__(
        self, factors: ItemFactors, space: ContentSpace, versions: pa.Table, history: History, fitted_at: int
    ) -> None:
        self._users, self._space = Als(factors, history), space
        line = Timeline(codes(versions["item_id"], factors.ids), column(versions, "valid_from"))
        start, stop = line.until(np.arange(len(factors.ids)), np.full(len(factors.ids), fitted_at - 1))
        has = stop > start
        content = space.vectors(versions.take(line.order[stop[has] - 1]))
        self._map = Ridge(alpha=RIDGE, solver="sparse_cg").fit(content, factors.vectors[has])

    def users(self, rows: pa.Table) -> Floats:
        """Solved from the known positives."""
        return self._users.users(rows)

    def items(self, rows: pa.Table) -> Any:
        """What the content says that the vector would be."""
        return np.asarray(self._map.predict(self._space.vectors(rows, "item_")), np.float64)
