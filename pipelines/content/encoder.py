"""Raw feature values to model inputs, by a fitted state. [numpy, Arrow; no engine]

Training, evaluation and serving all encode here, so that they cannot differ. How the state is fitted is left to `fit`.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.content.words import text_buckets
from pipelines.errors import InputError
from schemas.columns import ColumnType
from schemas.content import Side
from schemas.fitted import EncoderState, InputSpec, Normaliser

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

MISSING, UNKNOWN, FIRST_KNOWN = 0, 1, 2
"""Ids: padding or missing, not in the vocabulary, and the vocabulary's first value."""
FAR = 100.0
"""Standard deviations beyond which a number is taken for one so far off: it says no more, and no tower overflows."""


class Encoder:
    """Encodes tables of raw feature values. An ids input without a vocabulary is text; a float one without a
    normaliser is a vector.

    >>> spec = InputSpec(name="item_tags", side="item", part="content", kind="ids", length=2, table="tags",
    ...                  table_size=3, columns=("item_tags",))
    >>> state = EncoderState(inputs=(spec,), vocabularies={"tags": ("red",)}, normalisers={}, text_buckets=8,
    ...                      max_words=4, max_values=2)
    >>> Encoder(state).encode(pa.table({"item_tags": [["red", "new"], None]}), "item")["item_tags"].tolist()
    [[2, 1], [0, 0]]
    """

    def __init__(self, state: EncoderState) -> None:
        self.state = state
        self._ids = {
            table: {value: index for index, value in enumerate(values, FIRST_KNOWN)}
            for table, values in state.vocabularies.items()
        }

    def inputs(self, side: Side) -> tuple[InputSpec, ...]:
        """The inputs of a side, in order."""
        return tuple(spec for spec in self.state.inputs if spec.side == side)

    def raw_columns(self, side: Side) -> dict[str, ColumnType]:
        """The raw feature columns that a side's inputs are made of, with their types; of a reference factor, the id."""
        types: dict[str, ColumnType] = {}
        for spec in self.inputs(side):
            for name in spec.columns:
                if name == f"{side}_factor":
                    types[f"{side}_id"] = "string"
                elif spec.kind == "floats":
                    types[name] = "float64" if name in self.state.normalisers else "list<float32>"
                else:
                    one = spec.table not in self._ids or (spec.part == "content" and spec.length == 1)
                    types[name] = "string" if one else "list<string>"
        return types

    def encode(self, table: pa.Table | pa.RecordBatch, side: Side) -> dict[str, Array]:
        """Input name -> array (rows, length): ids int64, 0 missing; floats float32, NaN missing.

        Raises InputError naming a column that is absent or of another type.
        """
        return {spec.name: self._encode(table, spec) for spec in self.inputs(side)}

    def _encode(self, table: pa.Table | pa.RecordBatch, spec: InputSpec) -> Array:
        if spec.kind == "ids":
            (name,) = spec.columns
            column = _column(table, name)
            if spec.table not in self._ids:
                return self._text(column, name, spec.length)
            known = self._ids[spec.table]

            def look_up(values: list[str]) -> Ids:
                return np.fromiter((known.get(value, UNKNOWN) for value in values), np.int64, len(values))

            if _is_list(column.type):
                return _padded(column, name, spec.length, look_up)
            single = np.zeros((len(column), spec.length), np.int64)
            single[:, 0] = _per_distinct(_strings(column, name), look_up)
            return single
        if len(spec.columns) == 1 and spec.columns[0] not in self.state.normalisers:
            return _vectors(_column(table, spec.columns[0]), spec.columns[0], spec.length)
        stacked = np.empty((table.num_rows, spec.length), np.float32)
        for index, name in enumerate(spec.columns):
            stacked[:, index] = normalise(numbers(_column(table, name), name), self.state.normalisers[name])
        return stacked

    def _text(self, column: pa.Array, name: str, length: int) -> Ids:
        def hashed(texts: list[str]) -> Ids:
            rows = [text_buckets(text, length, self.state.text_buckets, self.state.ngrams) for text in texts]
            return np.array(rows, np.int64).reshape(len(texts), length)

        return _per_distinct(_strings(column, name), hashed)


def normalise(values: Floats, normaliser: Normaliser) -> Floats:
    """(transform(values) - mean) / std, at most FAR from 0, or the place among the knots; NaN stays NaN."""
    if normaliser.knots:
        knots, which = np.unique(normaliser.knots, return_inverse=True)
        # A value that several knots have in common is in the middle of their places.
        places = np.bincount(which, np.linspace(-(3**0.5), 3**0.5, len(which))) / np.bincount(which)
        return np.asarray(np.interp(transformed(values, normaliser.transform), knots, places))
    return np.clip((transformed(values, normaliser.transform) - normaliser.mean) / normaliser.std, -FAR, FAR)


def transformed(values: Floats, transform: str) -> Floats:
    """`log1p` is sign(x)·log(1 + |x|)."""
    return np.sign(values) * np.log1p(np.abs(values)) if transform == "log1p" else values


def numbers(column: pa.Array, name: str) -> Floats:
    """A numeric column as float64, NaN where missing or not finite. Raises InputError on another type."""
    kind = column.type
    if not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    ):
        raise _wrong(name, "numbers", kind)
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _column(table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    if name not in table.schema.names:
        raise InputError(
            f"the encoder needs the column `{name}`, the table has {table.schema.names}; add it, null where unknown"
        )
    column = table.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _strings(column: pa.Array, name: str) -> pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise _wrong(name, "text", column.type)
    return column.cast(pa.string())


def _per_distinct(column: pa.Array, encode: Callable[[list[str]], Ids]) -> Ids:
    """`encode` every distinct value once and spread the results over the rows; null is zeros."""
    encoded = column.dictionary_encode()
    distinct = encode(encoded.dictionary.to_pylist())
    with_null = np.concatenate([distinct, np.zeros_like(distinct, shape=(1, *distinct.shape[1:]))])
    index: Ids = encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)
    return with_null[index]


def _padded(column: pa.Array, name: str, length: int, encode: Callable[[list[str]], Ids]) -> Ids:
    """The first `length` values of each list, zeros after them."""
    kept = pc.list_slice(column, 0, length)
    counts = pc.list_value_length(kept).fill_null(0).to_numpy(zero_copy_only=False)
    result = np.zeros((len(column), length), np.int64)
    # Row by row, the filled places in order are exactly the flattened values.
    result[np.arange(length) < counts[:, None]] = _per_distinct(_strings(kept.flatten(), name), encode)
    return result


def _vectors(column: pa.Array, name: str, length: int) -> npt.NDArray[np.float32]:
    """Lists of `length` numbers; NaN where missing or not finite."""
    result = np.full((len(column), length), np.nan, np.float32)
    if pa.types.is_null(column.type):
        return result
    if not _is_list(column.type):
        raise _wrong(name, "lists of numbers", column.type)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(column).drop_null().unique().to_pylist()
    if any(found != length for found in lengths):
        raise InputError(
            f"the vectors of `{name}` must have length {length}, as in training; got {sorted(lengths)}; "
            "make them with one encoder"
        )
    result[present] = numbers(column.flatten(), name).reshape(-1, length)
    return result


def _wrong(name: str, wanted: str, got: pa.DataType) -> InputError:
    return InputError(f"the column `{name}` must hold {wanted}, got {got}; check how the table was made")
