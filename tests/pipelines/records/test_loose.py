"""Records of any columns: strings and lists of any length, and missing values, beside fixed ones."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import ThawError
from pipelines.records.wire import decode, encode
from schemas.manifest import ColumnEntry

TYPES = ("string", "float32", "int64", "list<string>", "list<float32>", "list<int64>")
ARROW = {"string": pa.binary(), "float32": pa.float32(), "int64": pa.int64()}
TEXT = st.one_of(st.binary(max_size=5), st.sampled_from([b"", b"\0", b"a\0\0", b"\xff\xfe", b"x" * 127, b"y" * 129]))


@st.composite
def a_column(draw: st.DrawFn, name: str) -> ColumnEntry:
    kind = draw(st.sampled_from(TYPES))
    length = draw(st.integers(0, 3)) if kind not in ("float32", "int64") else 0
    width = draw(st.sampled_from([1, 2, 4, 5, 9, 10])) if "int64" in kind else 0
    return ColumnEntry(name=name, type=kind, length=length, width=width, nullable=draw(st.booleans()))


@st.composite
def a_value(draw: st.DrawFn, column: ColumnEntry) -> Any:
    """None, bytes, a number or a list, as the column allows."""
    if column.nullable and draw(st.integers(0, 3)) == 0:
        return None
    kind = column.type
    if "string" in kind:
        one = (
            TEXT if kind != "string" or not column.length else st.binary(min_size=column.length, max_size=column.length)
        )
    elif "float32" in kind:
        one = st.floats(width=32)
    else:
        least, most = (-(2**63), 2**63 - 1) if column.width == 10 else (0, 2 ** (7 * column.width) - 1)
        one = st.one_of(st.integers(least, most), st.sampled_from([least, most]))
    if not kind.startswith("list"):
        return draw(one)
    size = column.length or draw(st.sampled_from([0, 1, 2, 90]))
    return [draw(one)] * size if size == 90 else draw(st.lists(one, min_size=size, max_size=size))


@st.composite
def tables(draw: st.DrawFn) -> tuple[tuple[ColumnEntry, ...], dict[str, list[Any]]]:
    columns = tuple(draw(a_column(f"c{n}")) for n in range(draw(st.integers(1, 4))))
    rows = draw(st.sampled_from([0, 1, 2, 7]))
    return columns, {column.name: [draw(a_value(column)) for _ in range(rows)] for column in columns}


def as_objects(values: list[Any]) -> np.ndarray:
    return np.fromiter(values, object, len(values))


def as_arrow(values: list[Any], column: ColumnEntry) -> pa.Array:
    kind = ARROW[column.type.removeprefix("list<").removesuffix(">")]
    return pa.array(values, pa.list_(kind) if column.type.startswith("list") else kind)


def plain(value: Any, column: ColumnEntry) -> Any:
    """A value in a form that compares: floats by their bits."""
    if value is None or "string" in column.type:
        return value
    return np.asarray(value, np.float32 if "float32" in column.type else np.int64).tobytes()


@settings(deadline=None, max_examples=80)
@given(tables())
def test_any_columns_come_back_exactly_from_objects_and_from_arrow(table: tuple[Any, dict[str, list[Any]]]) -> None:
    columns, rows = table
    data, offsets = encode({name: as_objects(values) for name, values in rows.items()}, columns)
    assert offsets[0] == 0 and offsets[-1] == len(data)
    found = decode(data.tobytes(), columns)
    for column in columns:
        got = [plain(value, column) for value in found[column.name].tolist()]
        assert got == [plain(value, column) for value in rows[column.name]], column
    again, _ = encode(found, columns)
    assert again.tobytes() == data.tobytes()
    arrow, _ = encode({column.name: as_arrow(rows[column.name], column) for column in columns}, columns)
    assert arrow.tobytes() == data.tobytes()


@settings(deadline=None, max_examples=40)
@given(tables())
def test_protobuf_reads_any_columns_and_tells_missing_from_empty(table: tuple[Any, dict[str, list[Any]]]) -> None:
    import tensorflow as tf

    columns, rows = table
    records = serialised(*encode({name: as_objects(values) for name, values in rows.items()}, columns))
    for row, record in enumerate(records):
        feature = tf.train.Example.FromString(record).features.feature
        for column in columns:
            value, kind = rows[column.name][row], feature[column.name].WhichOneof("kind")
            assert (kind is None) == (value is None)
            if kind:
                wanted = value if column.type.startswith("list") else [value]
                assert plain(list(getattr(feature[column.name], kind).value), column) == plain(wanted, column)


@settings(deadline=None, max_examples=25)
@given(tables())
def test_tensorflow_parses_any_columns_with_their_defaults(table: tuple[Any, dict[str, list[Any]]]) -> None:
    import tensorflow as tf

    from schemas.to_tf import feature_spec

    columns, rows = table
    records = serialised(*encode({name: as_objects(values) for name, values in rows.items()}, columns))
    parsed = tf.io.parse_example(tf.constant(records, tf.string), feature_spec(columns))
    for column in columns:
        default = b"" if "string" in column.type else float("nan") if "float32" in column.type else -1
        is_list = column.type.startswith("list")
        missing = [default] * column.length if is_list else default
        found = parsed[column.name]
        got = found.to_list() if isinstance(found, tf.RaggedTensor) else found.numpy().tolist()
        wanted = [missing if value is None else value for value in rows[column.name]]
        assert [plain(value, column) for value in got] == [plain(value, column) for value in wanted], column


def serialised(data: np.ndarray, offsets: np.ndarray) -> list[bytes]:
    raw = data.tobytes()
    return [raw[start + 12 : end - 4] for start, end in pairwise(offsets)]


def test_the_bytes_of_loose_values_are_what_the_protobuf_format_says() -> None:
    columns = (
        ColumnEntry(name="a", type="list<int64>", width=1, nullable=True),
        ColumnEntry(name="b", type="list<string>"),
    )
    values = {"a": as_objects([[5, 6], [], None]), "b": as_objects([[b"x", b""], [], [b"y"]])}
    two, none, null = serialised(*encode(values, columns))
    features, a = b"\x0a\x1b", b"\x0a\x0b\x0a\x01a\x12\x06\x1a\x04\x0a\x02\x05\x06"
    assert two == features + a + b"\x0a\x0c\x0a\x01b\x12\x07\x0a\x05\x0a\x01x\x0a\x00"
    assert b"\x0a\x01a\x12\x02\x1a\x00" in none  # a list without values
    assert b"\x0a\x01a\x12\x00" in null  # a feature without a list


def test_many_rows_of_long_and_short_values_come_back() -> None:
    columns = (
        ColumnEntry(name="text", type="string"),
        ColumnEntry(name="n", type="int64", width=2),
        ColumnEntry(name="image", type="string", nullable=True),
        ColumnEntry(name="floats", type="list<float32>"),
    )
    random = np.random.default_rng(3)
    count = 3_000
    values = {
        "text": as_objects([b"t" * n for n in random.integers(0, 40, count)]),
        "n": random.integers(0, 2**14, count),
        "image": as_objects([None if n < 0 else random.bytes(n) for n in random.integers(-300, 2_000, count)]),
        "floats": as_objects([random.random(n, np.float32) for n in random.integers(0, 200, count)]),
    }
    data, _ = encode(values, columns)
    found = decode(data.tobytes(), columns)
    assert found["text"].tolist() == values["text"].tolist() and found["image"].tolist() == values["image"].tolist()
    assert (found["n"] == values["n"]).all()
    assert all((a == b).all() for a, b in zip(found["floats"], values["floats"], strict=True))
    first, second = (
        encode({k: v[half] for k, v in values.items()}, columns)[0] for half in (slice(77), slice(77, None))
    )
    assert first.tobytes() + second.tobytes() == data.tobytes()


FIXED = ColumnEntry(name="x", type="list<float32>", length=3)
LISTS = pa.array([[1.0, 2.0, 3.0], [1.0, 2.0]], pa.list_(pa.float32()))


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        (FIXED, as_objects([[1.0, 2.0, 3.0], [1.0, 2.0]]), r"`x` must have 3 values in every row, row 1 has 2;"),
        (FIXED, LISTS, r"`x` must have 3 values in every row, row 1 has 2; give it length 0"),
        (FIXED, pa.array([[1.0, 2.0, 3.0], None]), r"`x` must have a value in every row, row 1 has none; make it"),
        (FIXED, pa.array([[1.0, 2.0, 3.0], [1.0, None, 3.0]]), r"no null within a list, row 1 has one"),
        (FIXED, pa.array([b"a", b"b"]), r"`x` must hold lists, got binary"),
        (ColumnEntry(name="x", type="float32"), np.zeros((2, 2)), r"`x` must have 1 values in every row, row 0 has 2"),
        (ColumnEntry(name="x", type="float32"), pa.array([1.0, None]), r"must have a value in every row, row 1"),
        (ColumnEntry(name="x", type="int64", width=1), np.array([0.0, 0.5]), r"must hold whole numbers, got float64"),
        (ColumnEntry(name="x", type="int64", width=0), np.zeros(2, int), r"width of 1 to 10 bytes, got 0"),
        (ColumnEntry(name="x", type="list<int64>", width=1), as_objects([[1], [128]]), r"from 0 to 127, got 1 to 128"),
        (ColumnEntry(name="x", type="string"), as_objects([b"a", "b"]), r"`x` must hold bytes"),
        (ColumnEntry(name="x", type="string"), np.array(["a", "b"]), r"`x` must hold bytes, got <U1"),
        (ColumnEntry(name="x", type="string"), pa.array([1, 2]), r"`x` must hold strings, got int64"),
        (
            ColumnEntry(name="x", type="string", length=2),
            np.array([b"ab", b"a"]),
            r"have 2 bytes in every row, row 1 has 1",
        ),
        (ColumnEntry(name="x", type="string"), as_objects([b"a"]), r"`x` must have 2 rows .* got 1"),
        (ColumnEntry(name="x", type="bool"), np.zeros(2, bool), r"`x` is bool; cast it"),
    ],
)
def test_a_value_that_does_not_fit_is_one_clear_message(column: ColumnEntry, values: Any, said: str) -> None:
    first = ColumnEntry(name="first", type="int64", width=1)
    with pytest.raises(ThawError, match=said):
        encode({"first": np.zeros(2, np.int64), "x": values}, (first, column))


@pytest.mark.parametrize("length", [0, 3])
def test_strings_keep_every_byte_nul_and_not_utf_8_too(length: int) -> None:
    texts = [b"a\0\0", b"\0\0\0", b"\xff\xfe\xfd", b"abc"]
    columns = (ColumnEntry(name="x", type="string", length=length),)
    for given_as in (as_objects(texts), pa.array(texts), pa.array(texts, pa.binary(3)).slice(0)):
        assert decode(encode({"x": given_as}, columns)[0].tobytes(), columns)["x"].tolist() == texts


def test_arrow_slices_dictionaries_and_large_or_fixed_size_lists_are_taken_as_what_they_say() -> None:
    columns = (ColumnEntry(name="s", type="string"), ColumnEntry(name="f", type="list<float32>", length=2))
    texts, lists = ["skipped", "ä", "b"], [[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]]
    wanted, _ = encode(
        {"s": as_objects([t.encode() for t in texts[1:]]), "f": np.array(lists[1:], np.float32)}, columns
    )
    for strings in (pa.array(texts), pa.array(texts, pa.large_string()), pa.array(texts).dictionary_encode()):
        for kind in (pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)):
            found, _ = encode({"s": strings[1:], "f": pa.chunked_array([pa.array(lists, kind)[1:]])}, columns)
            assert found.tobytes() == wanted.tobytes()


LOOSE = (
    ColumnEntry(name="s", type="string", nullable=True),
    ColumnEntry(name="x", type="int64", width=3),
    ColumnEntry(name="w", type="list<string>"),
    ColumnEntry(name="f", type="list<float32>", nullable=True),
)
SMALL = {
    "s": as_objects([b"abc", None]),
    "x": np.array([5, 6]),
    "w": as_objects([[b"p", b"qq"], []]),
    "f": as_objects([[1.5], None]),
}


def test_a_flipped_bit_anywhere_in_a_loose_record_is_noticed() -> None:
    data, _ = encode(SMALL, LOOSE)
    for place in range(len(data)):
        wrong = data.copy()
        wrong[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"layout|CRC|cut off"):
            decode(wrong.tobytes(), LOOSE)


@pytest.mark.parametrize(
    "columns", [LOOSE[:3], LOOSE[::-1], (*LOOSE, LOOSE[0]), (*LOOSE[:3], ColumnEntry(name="f", type="string"))]
)
def test_records_of_other_columns_are_refused(columns: tuple[ColumnEntry, ...]) -> None:
    with pytest.raises(ValueError, match="does not have the layout of its columns"):
        decode(encode(SMALL, LOOSE)[0].tobytes(), columns)


def test_tensorflow_accepts_whole_loose_records_and_refuses_an_altered_byte(tmp_path) -> None:
    import tensorflow as tf

    data, offsets = encode(SMALL, LOOSE)
    (tmp_path / "x").write_bytes(data.tobytes())
    assert [len(r.numpy()) for r in tf.data.TFRecordDataset(str(tmp_path / "x"))] == (np.diff(offsets) - 16).tolist()
    data[40] ^= 1
    (tmp_path / "x").write_bytes(data.tobytes())
    with pytest.raises(tf.errors.DataLossError, match="corrupted record"):
        list(tf.data.TFRecordDataset(str(tmp_path / "x")))
