from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.errors import ConfigError, ThawError
from pipelines.records.framing import framed
from pipelines.records.wire import decode, encode
from schemas.manifest import ColumnEntry

COLUMNS = (
    ColumnEntry(name="name", type="string"),
    ColumnEntry(name="label", type="float32"),
    ColumnEntry(name="time", type="int64", width=10),
    ColumnEntry(name="floats", type="list<float32>", length=3),
    ColumnEntry(name="tags", type="list<int64>", length=2, width=2),
)
BITS = st.integers(0, 2**32 - 1)
TIMES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), -1, 0, 127, 128, 2**63 - 1]))


@st.composite
def rows(draw: st.DrawFn) -> dict[str, np.ndarray]:
    count = draw(st.integers(0, 12))
    texts = np.empty(count, object)
    texts[:] = draw(st.lists(st.binary(max_size=300), min_size=count, max_size=count))
    return {
        "name": texts,
        "label": draw(hnp.arrays(np.uint32, count, elements=BITS)).view(np.float32),
        "time": draw(hnp.arrays(np.int64, count, elements=TIMES)),
        "floats": draw(hnp.arrays(np.uint32, (count, 3), elements=BITS)).view(np.float32),
        "tags": draw(hnp.arrays(np.int64, (count, 2), elements=st.integers(0, 2**14 - 1))),
    }


def assert_same_bits(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    for name, values in wanted.items():
        assert found[name].shape == values.shape, name
        if values.dtype == object:
            assert found[name].tolist() == values.tolist(), name
        else:
            assert found[name].dtype == values.dtype and found[name].tobytes() == values.tobytes(), name


@settings(deadline=None, max_examples=60)
@given(rows())
def test_any_values_come_back_bit_by_bit(values: dict[str, np.ndarray]) -> None:
    data, offsets = encode(values, COLUMNS)
    assert offsets[0] == 0 and offsets[-1] == len(data)
    assert_same_bits(decode(data.tobytes(), COLUMNS), values)


@settings(deadline=None, max_examples=25)
@given(rows())
def test_tensorflow_reads_any_values_bit_by_bit(values: dict[str, np.ndarray]) -> None:
    import tensorflow as tf

    from schemas.to_tf import feature_spec

    data, offsets = encode(values, COLUMNS)
    raw = data.tobytes()
    records = [raw[start + 12 : end - 4] for start, end in pairwise(offsets)]
    if records:
        parsed = tf.io.parse_example(tf.constant(records), feature_spec(COLUMNS))
        assert_same_bits({name: tensor.numpy() for name, tensor in parsed.items()}, values)
    for row, record in enumerate(records):
        feature = tf.train.Example.FromString(record).features.feature
        assert feature["time"].int64_list.value[0] == values["time"][row]
        assert list(feature["tags"].int64_list.value) == values["tags"][row].tolist()
        assert feature["name"].bytes_list.value[0] == values["name"][row]


def test_tensorflow_accepts_the_framing_and_its_checksums(tmp_path) -> None:
    import tensorflow as tf

    columns = (ColumnEntry(name="x", type="list<float32>", length=2),)
    data, _ = encode({"x": np.arange(10_000, dtype=np.float32).reshape(-1, 2)}, columns)
    (tmp_path / "x").write_bytes(data.tobytes())
    assert sum(1 for _ in tf.data.TFRecordDataset(str(tmp_path / "x"))) == 5_000


def test_the_bytes_of_a_record_are_what_the_protobuf_format_says() -> None:
    data, _ = encode({"a": np.array([300])}, (ColumnEntry(name="a", type="int64", width=3),))
    #                        Example  Features entry   key "a"      Feature  Int64List packed  300 in three bytes
    assert data[12:-4].tobytes() == b"\x0a\x0e\x0a\x0c\x0a\x01a\x12\x07\x1a\x05\x0a\x03\xac\x82\x00"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("tags", np.array([[1, 2**14]]), r"`tags` must be from 0 to 16383, got 1 to 16384"),
        ("tags", np.array([[-1, 0]]), r"`tags` must be from 0"),
        ("floats", np.zeros((1, 2), np.float32), r"`floats` must have 3 values in every row, row 0 has 2"),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_refused(name: str, value: np.ndarray, said: str) -> None:
    values = {
        "name": np.array([b"n"], object),
        "label": np.zeros(1, np.float32),
        "time": np.zeros(1, np.int64),
        "floats": np.zeros((1, 3), np.float32),
        "tags": np.zeros((1, 2), np.int64),
    }
    with pytest.raises(ThawError, match=said):
        encode({**values, name: value}, COLUMNS)


@pytest.mark.parametrize("place", range(0, 59, 2))
def test_a_flipped_bit_anywhere_is_noticed(place: int) -> None:
    columns = (ColumnEntry(name="id", type="string", length=4), ColumnEntry(name="x", type="int64", width=9))
    data, _ = encode({"id": np.array([b"abcd"]), "x": np.array([5])}, columns)
    data[place % len(data)] ^= 4
    with pytest.raises(ValueError, match=r"layout|CRC"):
        decode(data.tobytes(), columns)


@pytest.mark.parametrize("columns", [COLUMNS, COLUMNS[1:]])
def test_records_that_are_cut_off_are_noticed(columns: tuple[ColumnEntry, ...]) -> None:
    values = {
        "name": np.array([b"n", b"more"], object),
        "label": np.zeros(2, np.float32),
        "time": np.zeros(2, np.int64),
        "floats": np.zeros((2, 3), np.float32),
        "tags": np.zeros((2, 2), np.int64),
    }
    data, _ = encode(values, columns)
    with pytest.raises(ValueError, match=r"cut off|cannot make up"):
        decode(data[:-5].tobytes(), columns)


def test_records_that_one_array_cannot_hold_are_told_and_how_to_take_fewer() -> None:
    assert framed(np.frombuffer(b"abcd", np.uint8), np.array([0, 1, 4])).to_pylist() == [b"a", b"bcd"]
    with pytest.raises(ConfigError, match=r"under 2 GiB, got 2147483648 bytes; lower images\.block_images"):
        framed(np.empty(0, np.uint8), np.array([0, 1 << 31]))
