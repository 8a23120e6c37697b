import math

from schemas.manifest import ColumnEntry
from schemas.to_tf import feature_spec


def test_scalars_have_no_shape_and_lists_their_length() -> None:
    import tensorflow as tf

    found = feature_spec(
        (
            ColumnEntry(name="id", type="string", length=32),
            ColumnEntry(name="label", type="float32"),
            ColumnEntry(name="tags", type="list<int64>", length=5, width=2),
        )
    )
    assert found == {
        "id": tf.io.FixedLenFeature((), tf.string),
        "label": tf.io.FixedLenFeature((), tf.float32),
        "tags": tf.io.FixedLenFeature((5,), tf.int64),
    }


def test_lists_of_any_length_are_ragged_and_other_missing_values_have_a_default() -> None:
    import tensorflow as tf

    found = feature_spec(
        (
            ColumnEntry(name="words", type="list<string>"),
            ColumnEntry(name="price", type="float32", nullable=True),
            ColumnEntry(name="sizes", type="list<int64>", length=2, width=3, nullable=True),
            ColumnEntry(name="title", type="string", nullable=True),
        )
    )
    assert found["words"] == tf.io.RaggedFeature(tf.string)
    assert math.isnan(found["price"].default_value)
    assert found["sizes"] == tf.io.FixedLenFeature((2,), tf.int64, [-1, -1])
    assert found["title"] == tf.io.FixedLenFeature((), tf.string, b"")
