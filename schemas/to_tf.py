"""Record contracts as TensorFlow feature specs. The only file here that imports tensorflow."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from schemas.manifest import ColumnEntry

_TYPES = {
    "string": tf.string,
    "float32": tf.float32,
    "int64": tf.int64,
    "list<float32>": tf.float32,
    "list<int64>": tf.int64,
}


def feature_spec(columns: Iterable[ColumnEntry]) -> dict[str, Any]:
    """What `tf.io.parse_example` needs to read records of these columns: scalars of shape (), lists of (length,).

    Any TensorFlow program reads a published split this way:
    `tf.io.parse_example(batch, feature_spec(dataset.manifest.tables["train"].columns))`.
    """
    return {
        column.name: tf.io.FixedLenFeature(
            (column.length,) if column.type.startswith("list") else (), _TYPES[column.type]
        )
        for column in columns
    }
