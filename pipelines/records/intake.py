"""A column as it comes, numpy or Arrow, as the arrays that records are filled from, or one message on what is wrong.

Numpy: numbers (rows,) or (rows, length), strings of dtype S, or objects: bytes, sequences, and None where missing.
Arrow: numbers, strings, binary, lists of them, with nulls. How bytes lie in a record is left to `fixed` and `loose`.
"""

from collections.abc import Sequence
from itertools import repeat
from operator import is_
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.errors import ThawError
from pipelines.records.layout import unit
from pipelines.records.numbers import to_bytes
from schemas.manifest import ColumnEntry

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


class Flat(NamedTuple):
    """The values of a column, one after the other. `missing`, `counts`: (rows,), whether and how many values each has.

    `values`: float32 or int64 (values,); of strings all bytes, uint8, and `lengths` says how many each value has.
    """

    missing: NDArray[np.bool_]
    counts: Ints
    values: Array
    lengths: Ints | None = None


def fixed_bytes(values: Any, column: ColumnEntry, rows: int) -> Bytes:
    """The bytes of a fixed column's values: (rows, bytes).

    Raises ThawError where a row has none or another number of them, or a value does not fit.
    """
    length = max(column.length, 1)
    plain = isinstance(values, np.ndarray) and values.dtype.kind in "fiub"
    if plain and values.size == rows * length == len(values) * length and column.type != "string":
        flat = _numbers(values.reshape(-1), column)
    else:
        flat = flat_values(values, column, rows).values
    return (flat if column.type == "string" else to_bytes(flat, column)).reshape(rows, length * unit(column))


def flat_values(values: Any, column: ColumnEntry, rows: int) -> Flat:
    """Values of any column. Raises ThawError where a row's do not fit the column."""
    if len(values) != rows:
        raise ThawError(f"`{column.name}` must have {rows} rows as the first column has, got {len(values)}")
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    flat = _of_arrow(values, column) if isinstance(values, pa.Array) else _of_numpy(values, column)
    _check(flat, column)
    return flat if column.type.endswith(("string", "string>")) else flat._replace(values=_numbers(flat.values, column))


def _check(flat: Flat, column: ColumnEntry) -> None:
    """Raises ThawError, naming the row, where a row has no value or not as many as the column says."""
    if not column.nullable and flat.missing.any():
        raise ThawError(
            f"`{column.name}` must have a value in every row, row {flat.missing.argmax()} has none; make it nullable"
        )
    scalar = column.type in ("float32", "int64")
    if not scalar and not column.length:
        return
    wanted, found = column.length or 1, flat.counts.copy()
    string = column.type == "string"
    if string and flat.lengths is not None:
        found[~flat.missing] = flat.lengths
    wrong = np.flatnonzero((found != wanted) & ~flat.missing)
    if wrong.size:
        raise ThawError(
            f"`{column.name}` must have {wanted} {'bytes' if string else 'values'} in every row, row {wrong[0]} has "
            f"{found[wrong[0]]}; {'make it a list' if scalar else 'give it length 0 if any number is meant'}"
        )


def _numbers(values: Array, column: ColumnEntry) -> Array:
    """Numbers in the column's type. Raises ThawError where they are of another kind or out of range."""
    if "float32" in column.type:
        if values.dtype.kind not in "fiub":
            raise ThawError(f"`{column.name}` must hold numbers, got {values.dtype}")
        return np.ascontiguousarray(values, "<f4")
    if values.dtype.kind not in "iub" and values.size:
        raise ThawError(f"`{column.name}` must hold whole numbers, got {values.dtype}; cast it to int64")
    least, most = (-(1 << 63), (1 << 63) - 1) if column.width == 10 else (0, (1 << 7 * column.width) - 1)
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < least or high > most:
        raise ThawError(f"`{column.name}` must be from {least} to {most}, got {low} to {high}; widen the column")
    return np.ascontiguousarray(values, np.int64)


def _of_numpy(values: Array, column: ColumnEntry) -> Flat:
    rows, is_list = len(values), column.type.startswith("list")
    none = np.zeros(rows, bool)
    if values.dtype.kind == "S":
        if values.dtype.itemsize == column.length and column.type == "string":
            raw = np.ascontiguousarray(values).view(np.uint8).reshape(rows, column.length)
            if raw[:, -1:].all():  # no string ends in NUL, which numpy would strip: these are the bytes
                return Flat(none, np.ones(rows, np.int64), raw.reshape(-1), np.full(rows, column.length, np.int64))
        values = values.astype(object)
    if values.dtype != object:
        if "string" in column.type:
            raise ThawError(f"`{column.name}` must hold bytes, got {values.dtype}; encode text as UTF-8")
        return Flat(none, np.full(rows, values.size // max(rows, 1), np.int64), values.reshape(-1))
    cells = values.tolist()
    missing = np.fromiter(map(is_, cells, repeat(None)), bool, rows)
    present: Sequence[Any] = [cell for cell in cells if cell is not None] if missing.any() else cells
    counts = (~missing).astype(np.int64)
    if is_list:
        counts[~missing] = np.fromiter(map(len, present), np.int64, len(present))
    if "string" in column.type:
        texts = [text for cell in present for text in cell] if is_list else present
        try:
            raw_bytes = b"".join(texts)
        except TypeError as error:
            raise ThawError(f"`{column.name}` must hold bytes: {error}; encode text as UTF-8") from None
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return Flat(missing, counts, np.frombuffer(raw_bytes, np.uint8), lengths)
    if is_list:
        present = [some for cell in present for some in [np.asarray(cell)] if some.size]
        return Flat(missing, counts, np.concatenate(present) if present else np.zeros(0, np.int64))
    numbers = np.array(present)
    if numbers.ndim > 1:
        raise ThawError(f"`{column.name}` must hold one number in every row, got shape {numbers.shape}")
    return Flat(missing, counts, numbers)


def _of_arrow(values: pa.Array, column: ColumnEntry) -> Flat:
    missing = values.is_null().to_numpy(zero_copy_only=False)
    counts = (~missing).astype(np.int64)
    if column.type.startswith("list"):
        if not hasattr(values.type, "value_type"):
            raise ThawError(f"`{column.name}` must hold lists, got {values.type}")
        counts = pc.list_value_length(values).fill_null(0).to_numpy().astype(np.int64)
        values = values.flatten()
        if values.null_count:
            row = np.searchsorted(np.cumsum(counts), values.is_null().to_numpy(zero_copy_only=False).argmax(), "right")
            raise ThawError(f"`{column.name}` must have no null within a list, row {row} has one; drop or fill it")
    else:
        values = values.drop_null()
    if "string" not in column.type:
        return Flat(missing, counts, values.to_numpy(zero_copy_only=False))
    try:
        texts = values.cast(pa.large_binary())
    except pa.ArrowException:
        raise ThawError(f"`{column.name}` must hold strings, got {values.type}") from None
    _, ends, data = texts.buffers()
    offsets = (
        np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        if len(texts)
        else np.zeros(1, np.int64)
    )
    raw = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return Flat(missing, counts, raw[offsets[0] : offsets[-1]], np.diff(offsets))
