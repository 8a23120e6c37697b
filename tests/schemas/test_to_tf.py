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
