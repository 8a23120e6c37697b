"""What a batch of examples contributes to the fitted encoder: counts, extremes, fixed-point sums. [numpy, Arrow]

Contributions add up (extremes: combine) in any order to the same result. Adding them up is left to `fit`.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.content.encoder import Floats, numbers, transformed
from pipelines.content.layout import columns_of_kind, float_columns, vocabulary_tables
from schemas.examples import FeatureSet

STEPS = 1 << 16
"""Fixed point: a value's place in its column's range, in so many steps. Squares of 2^31 rows fit an int64."""

SURVEY = pa.schema(
    [
        ("what", pa.string()),  # value, extremes, filled or own_id
        ("name", pa.string()),  # embedding table for `value`, else column
        ("value", pa.string()),
        ("count", pa.int64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
MOMENTS = pa.schema([("name", pa.string()), ("count", pa.int64()), ("total", pa.int64()), ("squares", pa.int64())])

Ends = tuple[float, float]
"""Smallest and largest finite value of a column."""


def survey(batch: pa.RecordBatch, features: FeatureSet) -> pa.RecordBatch:
    """First pass: rows that hold each value, extremes of numbers and vector lengths, cells that are the row's id."""
    found: list[tuple[str, str, str | None, int, float | None, float | None]] = []
    for table, columns in vocabulary_tables(features).items():
        for value, count in _rows_with_value([batch.column(name) for name in columns]):
            found.append(("value", table, value, count, None, None))
    measured = {name: _finite(batch, name) for name in float_columns(features)}
    for name in columns_of_kind(features, "vector"):
        measured[name] = pc.list_value_length(batch.column(name)).drop_null().to_numpy(zero_copy_only=False)
    for name, values in measured.items():
        if len(values):
            found.append(("extremes", name, None, len(values), float(values.min()), float(values.max())))
    for side in (features.user, features.item):
        for name in side.content:
            column = batch.column(name)
            found.append(("filled", name, None, len(column) - column.null_count, None, None))
            found.append(("own_id", name, None, _own_ids(column, batch.column(f"{side.side}_id")), None, None))
    return pa.RecordBatch.from_pylist([dict(zip(SURVEY.names, row, strict=True)) for row in found], SURVEY)


def moments(batch: pa.RecordBatch, transforms: Mapping[str, str], ends: Mapping[str, Ends]) -> pa.RecordBatch:
    """Second pass: number, sum and sum of squares of each column's transformed values, in steps of its range."""
    rows = []
    for name, transform in transforms.items():
        low, high = ends[name]
        # Halved before the difference: the range of finite numbers may itself overflow.
        place = (transformed(_finite(batch, name), transform) / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
        steps = np.rint(place * STEPS).astype(np.int64)
        rows.append((name, len(steps), int(steps.sum()), int((steps * steps).sum())))
    return pa.RecordBatch.from_pylist([dict(zip(MOMENTS.names, row, strict=True)) for row in rows], MOMENTS)


def mean_and_std(count: int, total: int, squares: int, ends: Ends) -> tuple[float, float]:
    """Added-up moments to mean and standard deviation; a constant column has std 1."""
    low, high = ends
    step = (high / 2 - low / 2) / STEPS * 2
    # Integers up to the division, so that the difference of two large numbers is exact.
    variance = (count * squares - total * total) / count**2
    return low + total / count * step, variance**0.5 * step if variance > 0 and step > 0 else 1.0


def _finite(batch: pa.RecordBatch, name: str) -> Floats:
    values = numbers(batch.column(name), name)
    return values[np.isfinite(values)]


def _rows_with_value(columns: list[pa.Array]) -> Iterable[tuple[str, int]]:
    """(value, rows in which any of the columns holds it), for string and list<string> columns."""
    rows, values = [], []
    for column in columns:
        if pa.types.is_list(column.type):
            rows.append(pc.list_parent_indices(column).to_numpy(zero_copy_only=False))
            values.append(column.flatten())
        else:
            rows.append(np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)))
            values.append(column.drop_null())
    encoded = pa.concat_arrays(values).dictionary_encode()
    size = max(len(encoded.dictionary), 1)
    # Sorted here because np.unique hashes, which takes a hundred times as long on numbers as dense as these.
    cells = np.sort(np.concatenate(rows).astype(np.int64) * size + encoded.indices.to_numpy(zero_copy_only=False))
    once = cells[np.diff(cells, prepend=-1) > 0]
    counts = np.bincount(once % size, minlength=size)
    return zip(encoded.dictionary.to_pylist(), counts.tolist(), strict=False)


def _own_ids(column: pa.Array, ids: pa.Array) -> int:
    """Cells that are the row's own id: the text, the only category, or the number."""
    if pa.types.is_floating(column.type):
        # Up to 15 digits are exact in float64.
        ids = pc.if_else(pc.match_substring_regex(ids, r"^-?\d{1,15}$"), ids, None).cast(pa.int64()).cast(pa.float64())
    elif pa.types.is_list(column.type):
        if not pa.types.is_string(column.type.value_type):
            return 0
        alone = pc.fill_null(pc.equal(pc.list_value_length(column), 1), False)
        column, ids = column.filter(alone).flatten(), ids.filter(alone)
    return int(pc.sum(pc.equal(column, ids)).as_py() or 0)
