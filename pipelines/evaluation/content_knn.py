"""The content baseline: items like the ones a user said yes to, by content alone. [numpy, scipy]

Needs no training, ranks items that nobody has met, and is what a model must beat to be worth its trouble.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse  # type: ignore[import-untyped]

from pipelines.content.words import words
from pipelines.evaluation.metrics import Bools, Floats, Ints
from pipelines.evaluation.rankers import as_of_codes
from pipelines.evaluation.timeline import History, Timeline, codes, column
from schemas.content import ContentKind

BAG_KINDS = ("category", "categories", "text")


class ContentSpace:
    """Item content as unit vectors: one block per column, bags weighted by inverse document frequency.

    idf = 1 + ln((1 + N) / (1 + df)) over the versions valid before the test and validation periods (Spärck Jones
    1972, smoothed). Numbers are left out: the cosine of one standardised number is only its sign.
    """

    def __init__(self, versions: pa.Table, kinds: dict[str, ContentKind], before: int) -> None:
        self.columns = {name: kind for name, kind in kinds.items() if kind in (*BAG_KINDS, "vector")}
        self._values: dict[str, pa.Array] = {}
        self._idf: dict[str, Floats] = {}
        self._width: dict[str, int] = {}
        early = column(versions, "valid_from") < before
        for name, kind in self.columns.items():
            if kind in BAG_KINDS:
                rows, values = _bag(versions[name], kind)
                self._values[name] = pc.unique(values)
                self._idf[name] = _idf(rows, codes(values, self._values[name]), len(self._values[name]), early)
            else:
                self._width[name] = pc.max(pc.list_value_length(versions[name])).as_py() or 0

    def vectors(self, table: pa.Table, prefix: str = "") -> Any:
        """CSR, shape (rows, dimensions), rows of length 1 or 0. Reads the columns `prefix` + name."""
        blocks = [self._block(table[prefix + name], name, kind) for name, kind in self.columns.items()]
        return unit_rows(sparse.hstack(blocks, format="csr"))

    def _block(self, values: pa.ChunkedArray, name: str, kind: ContentKind) -> Any:
        if kind == "vector":
            return unit_rows(sparse.csr_matrix(_dense(values, self._width[name])))
        rows, found = _bag(values, kind)
        tokens = codes(found, self._values[name])
        known = tokens >= 0
        shape = (len(values), len(self._values[name]))
        block = sparse.csr_matrix((np.ones(known.sum()), (rows[known], tokens[known])), shape)
        block.data = self._idf[name][block.indices]
        return unit_rows(block)


class ContentKnn:
    """Cosine of an item's content to the mean content of the user's positives that the clock knows.

    Each positive counts with its content as of its own time. A user without such a history has zeros.
    """

    def __init__(self, space: ContentSpace, versions: pa.Table, history: History) -> None:
        self._space, self._history = space, history
        items = codes(versions["item_id"], history.item_ids)
        line = Timeline(items, column(versions, "valid_from"))
        start, stop = line.until(history.items, history.event_times)
        self._content = space.vectors(versions)
        # The version that applied is the last one of the span.
        self._version = np.where(stop > start, line.order[stop - 1], -1) if versions.num_rows else np.zeros(0, np.int64)

    def users(self, rows: pa.Table) -> Any:
        """Mean content of the known positives."""
        users, clocks, which = as_of_codes(rows, self._history.user_ids)
        owner, event = self._history.known(users, clocks)
        version = self._version[event]
        has = version >= 0
        taken = sparse.csr_matrix(
            (np.ones(has.sum()), (owner[has], version[has])), (len(users), self._content.shape[0])
        )
        return unit_rows(taken @ self._content)[which]

    def items(self, rows: pa.Table) -> Any:
        """Content."""
        return self._space.vectors(rows, "item_")


def unit_rows(matrix: Any) -> Any:
    """Rows divided by their Euclidean length; zero rows stay zero."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.where(lengths > 0, lengths, 1)) @ matrix)


def _bag(values: pa.ChunkedArray, kind: ContentKind) -> tuple[Ints, pa.Array]:
    """A column's values as (row, value) pairs; null has none."""
    whole = values.combine_chunks()
    if kind == "text":
        encoded = whole.dictionary_encode()
        split = pa.array([words(text) for text in encoded.dictionary.to_pylist()], pa.list_(pa.string()))
        whole = split.take(encoded.indices)
    if kind == "category":
        present = whole.is_valid()
        return np.flatnonzero(present.to_numpy(zero_copy_only=False)), whole.filter(present)
    return np.asarray(pc.list_parent_indices(whole).to_numpy(), np.int64), pc.list_flatten(whole)


def _idf(rows: Ints, tokens: Ints, size: int, early: Bools) -> Floats:
    pairs = np.unique(np.stack([tokens, rows], axis=1)[early[rows]], axis=0)
    return np.asarray(1 + np.log((1 + early.sum()) / (1 + np.bincount(pairs[:, 0], minlength=size))), np.float64)


def _dense(values: pa.ChunkedArray, width: int) -> Floats:
    """Lists of `width` numbers as a matrix; missing, or not finite, is 0."""
    rows = values.to_pylist()
    matrix = np.array([row or [0.0] * width for row in rows], np.float64).reshape(len(rows), width)
    return np.where(np.isfinite(matrix), matrix, 0.0)
