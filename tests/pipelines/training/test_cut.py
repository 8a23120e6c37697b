"""Cutting records gives what TensorFlow's own parser reads, to the bit, and refuses records of another layout."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.records.framing import frames
from pipelines.records.layout import FRAME_HEAD, FRAME_TAIL
from pipelines.records.wire import encode
from pipelines.training.cut import can_cut, cut
from schemas.manifest import ColumnEntry
from schemas.to_tf import feature_spec

COLUMNS = (
    ColumnEntry(name="name", type="string", length=3),
    ColumnEntry(name="number", type="float32"),
    ColumnEntry(name="key", type="int64", width=10),
    ColumnEntry(name="small", type="list<int64>", length=3, width=2),
    ColumnEntry(name="numbers", type="list<float32>", length=2),
)


def serialized(values: dict) -> list[bytes]:
    data, _ = encode(values, COLUMNS)
    raw = data.tobytes()
    return [
        raw[a + FRAME_HEAD : a + size - FRAME_TAIL] for a, size in zip(*(x.tolist() for x in frames(raw)), strict=True)
    ]


def values(rows: int, seed: int) -> dict:
    draw = np.random.default_rng(seed)
    return {
        "name": np.array([b"abc", b"x-y"])[draw.integers(0, 2, rows)],
        "number": draw.normal(size=rows).astype("f4"),
        "key": draw.integers(-(2**63), 2**63 - 1, rows),
        "small": draw.integers(0, 2**14, (rows, 3)),
        "numbers": np.where(draw.random((rows, 2)) < 0.3, np.nan, draw.normal(size=(rows, 2))).astype("f4"),
    }


@settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(rows=st.integers(0, 20), seed=st.integers(0, 99))
def test_cutting_reads_what_the_parser_reads(rows: int, seed: int) -> None:
    batch = tf.constant(serialized(values(rows, seed)), tf.string)
    parsed, found = tf.io.parse_example(batch, feature_spec(COLUMNS)), cut(batch, COLUMNS)
    assert set(found) == set(parsed) and can_cut(COLUMNS)
    for name, expected in parsed.items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name].numpy(), expected.numpy(), err_msg=name)


@pytest.mark.parametrize("change", ["longer", "another name", "varint of another length"])
def test_a_record_of_another_layout_is_an_error(change: str) -> None:
    record = serialized(values(2, 1))
    if change == "longer":
        record[1] += b"x"
    elif change == "another name":
        record[1] = record[1].replace(b"numbers", b"numberz")
    else:
        digits = bytearray(record[1])
        digits[digits.index(b"small") + len("small") + 6] ^= 0x80
        record[1] = bytes(digits)
    with pytest.raises(tf.errors.InvalidArgumentError):
        cut(tf.constant(record), COLUMNS)
