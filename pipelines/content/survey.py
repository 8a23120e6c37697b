"""What a batch of examples contributes to the fitted encoder: counts, extremes, fixed-point sums. [numpy, Arrow]

Contributions add up (extremes: combine) in any order to the same result. Adding them up is left to `fit`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import ContentOptions
from pipelines.content.encoder import Floats, numbers, transformed
from pipelines.content.layout import columns_of_kind, embedding_tables, float_columns, vocabulary_tables
from pipelines.content.words import text_buckets
from schemas.examples import FeatureSet

STEPS = 1 << 16
"""Fixed point: a value's place in its column's range, in so many steps. Squares of 2^31 rows fit an int64."""

KNOTS = 33
"""Quantiles kept of a column: 32 equal parts of the training values."""

SURVEY = pa.schema(
    [
        ("what", pa.string()),  # value, extremes, filled, own_id; for idf also rows and bucket
        ("name", pa.string()),  # embedding table for `value` and `bucket`, else column
        ("value", pa.string()),
        ("count", pa.int64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
MOMENTS = pa.schema([("name", pa.string()), ("count", pa.int64()), ("total", pa.int64()), ("squares", pa.int64())])

HISTOGRAM = pa.schema([("name", pa.string()), ("step", pa.int64()), ("count", pa.int64())])

WIDE_RANGE = 100.0
"""A number column without negatives goes by log1p where its largest value is over so many times its smallest, or 1."""

Transform = Literal["none", "log1p"]
Ends = tuple[float, float]
"""Smallest and largest finite value of a column."""


def survey(batch: pa.RecordBatch, features: FeatureSet, options: ContentOptions) -> pa.RecordBatch:
    """First pass: rows that hold each value, extremes of numbers and vector lengths, cells that are the row's id."""
    found: list[tuple[str, str, str | None, int, float | None, float | None]] = []
    if options.weighting == "idf":
        found.append(("rows", "", None, batch.num_rows, None, None))
        tables = embedding_tables(features)
        for name in columns_of_kind(features, "text"):
            for bucket, count in _rows_with_bucket(batch.column(name), options):
                found.append(("bucket", tables[name], str(bucket), count, None, None))
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


def histogram(batch: pa.RecordBatch, transforms: Mapping[str, str], ends: Mapping[str, Ends]) -> pa.RecordBatch:
    """How many of each column's transformed values lie at each step of its range."""
    names, steps, counts = [], [], []
    for name, transform in transforms.items():
        found, count = np.unique(_steps(batch, name, transform, ends[name]), return_counts=True)
        names += [name] * len(found)
        steps += found.tolist()
        counts += count.tolist()
    return pa.RecordBatch.from_pydict({"name": names, "step": steps, "count": counts}, HISTOGRAM)


def knots_of(steps: Sequence[int], counts: Sequence[int], ends: Ends) -> tuple[float, ...]:
    """Values of the ranks 0, (n - 1)/32, 2(n - 1)/32, … of an added-up histogram, its steps in order."""
    low, high = ends
    total = np.cumsum(counts)
    ranks = np.arange(KNOTS) * int(total[-1] - 1) // (KNOTS - 1)
    chosen = np.asarray(steps)[np.searchsorted(total, ranks, side="right")]
    return tuple(float(value) for value in low + chosen * ((high / 2 - low / 2) / STEPS * 2))


def moments(batch: pa.RecordBatch, transforms: Mapping[str, str], ends: Mapping[str, Ends]) -> pa.RecordBatch:
    """Second pass: number, sum and sum of squares of each column's transformed values, in steps of its range."""
    rows = []
    for name, transform in transforms.items():
        steps = _steps(batch, name, transform, ends[name])
        rows.append((name, len(steps), int(steps.sum()), int((steps * steps).sum())))
    return pa.RecordBatch.from_pylist([dict(zip(MOMENTS.names, row, strict=True)) for row in rows], MOMENTS)


def mean_and_std(count: int, total: int, squares: int, ends: Ends) -> tuple[float, float]:
    """Added-up moments to mean and standard deviation; a constant column has std 1."""
    low, high = ends
    step = (high / 2 - low / 2) / STEPS * 2
    # Integers up to the division, so that the difference of two large numbers is exact.
    variance = (count * squares - total * total) / count**2
    return low + total / count * step, variance**0.5 * step if variance > 0 and step > 0 else 1.0


def transform_of(ends: Ends, plain: bool) -> Transform:
    """Statistics by log1p always, numbers where their range is wide."""
    low, high = ends
    return "none" if plain and not (low >= 0 and high > WIDE_RANGE * max(low, 1.0)) else "log1p"


def transformed_ends(ends: Ends, transform: Transform) -> Ends:
    """The ends of what a transform makes of a column."""
    low, high = transformed(np.array(ends), transform).tolist()
    return low, high


def _steps(batch: pa.RecordBatch, name: str, transform: str, ends: Ends) -> npt.NDArray[np.int64]:
    """Transformed values as steps of their range, 0 … STEPS."""
    low, high = ends
    # Halved before the difference: the range of finite numbers may itself overflow.
    place = (transformed(_finite(batch, name), transform) / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
    return np.rint(place * STEPS).astype(np.int64)


def _rows_with_bucket(column: pa.Array, options: ContentOptions) -> Iterable[tuple[int, int]]:
    """(bucket, rows whose text has a gram in it), of the grams that are kept."""
    texts = column.drop_null().value_counts()
    rows: Counter[int] = Counter()
    for text, count in zip(texts.field(0).to_pylist(), texts.field(1).to_pylist(), strict=True):
        for bucket in set(text_buckets(text, options.max_words, options.text_buckets, options.ngrams)) - {0}:
            rows[bucket] += count
    return rows.items()


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
