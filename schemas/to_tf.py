"""Record contracts as TensorFlow feature specs. The only file here that imports tensorflow."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from schemas.manifest import ColumnEntry

_TYPES = {
    "string": (tf.string, b""),
    "list<string>": (tf.string, b""),
    "float32": (tf.float32, float("nan")),
    "list<float32>": (tf.float32, float("nan")),
    "int64": (tf.int64, -1),
    "list<int64>": (tf.int64, -1),
}
"""Column type -> its TensorFlow type, and what is read where a value is missing."""


def feature_spec(columns: Iterable[ColumnEntry]) -> dict[str, Any]:
    """What `tf.io.parse_example` needs to read records of these columns: scalars of shape (), lists of (length,).

    A list of any length is a ragged tensor, without values where the list is empty or missing. A missing value of any
    other nullable column is read as NaN, -1 or b"". Any TensorFlow program reads a published split this way:
    `tf.io.parse_example(batch, feature_spec(dataset.manifest.tables["train"].columns))`.
    """
    return {column.name: _feature(column) for column in columns}


def _feature(column: ColumnEntry) -> Any:
    """How one column is read."""
    dtype, missing = _TYPES[column.type]
    is_list = column.type.startswith("list")
    if is_list and not column.length:
        return tf.io.RaggedFeature(dtype)
    default = [missing] * column.length if is_list else missing
    return tf.io.FixedLenFeature((column.length,) if is_list else (), dtype, default if column.nullable else None)
