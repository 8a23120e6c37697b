import math

import numpy as np
import pyarrow as pa
import pytest

from pipelines.content.encoder import Encoder
from pipelines.content.words import bucket, words
from pipelines.errors import InputError
from schemas.fitted import EncoderState, InputSpec, Normaliser


def spec(name, kind, length, *, side="item", part="content", table="", columns=()):
    return InputSpec(
        name=name, side=side, part=part, kind=kind, length=length, table=table, table_size=9 if table else 0,
        columns=columns or (name,),
    )  # fmt: skip


STATE = EncoderState(
    inputs=(
        spec("user_statistics", "floats", 1, side="user", part="preference", columns=("user_click_count_7d",)),
        spec("user_recent_tags", "ids", 3, side="user", part="preference", table="tags"),
        spec("item_category", "ids", 1, table="category"),
        spec("item_tags", "ids", 3, table="tags"),
        spec("item_text", "ids", 4, table="text"),
        spec("item_numbers", "floats", 2, columns=("item_price", "item_year")),
        spec("item_image", "floats", 2),
    ),
    vocabularies={"category": ("toys", "books"), "tags": ("red", "old", "big")},
    normalisers={
        "item_price": Normaliser(transform="log1p", mean=1.0, std=2.0),
        "item_year": Normaliser(transform="none", mean=2000.0, std=10.0),
        "user_click_count_7d": Normaliser(transform="log1p", mean=0.0, std=1.0),
    },
    text_buckets=50,
    max_words=4,
    max_values=3,
)
ITEMS = pa.table(
    {
        "item_category": ["books", None, "cars"],
        "item_tags": [["old", "new", "red", "big"], [], None],
        "item_text": ["Big red RED books, all of them", None, ""],
        "item_price": pa.array([math.e - 1, float("nan"), float("inf")]),
        "item_year": pa.array([2010, None, 1990], pa.int64()),
        "item_image": pa.array([[0.5, 1.0], None, [float("nan"), 2.0]], pa.list_(pa.float32())),
    }
)


def same(got, wanted) -> None:
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


def test_ids_are_0_where_missing_1_where_unknown_and_lists_are_cut() -> None:
    got = Encoder(STATE).encode(ITEMS, "item")
    same(got["item_category"], np.array([[3], [0], [1]]))
    same(got["item_tags"], np.array([[3, 1, 2], [0, 0, 0], [0, 0, 0]]))


def test_a_users_bag_shares_the_ids_of_the_items_column() -> None:
    users = pa.table({"user_recent_tags": [["red", "red"]], "user_click_count_7d": [math.e - 1]})
    got = Encoder(STATE).encode(users, "user")
    same(got["user_recent_tags"], np.array([[2, 2, 0]]))
    np.testing.assert_allclose(got["user_statistics"], [[1.0]], rtol=1e-6)


def test_words_are_hashed_from_1_and_cut() -> None:
    got = Encoder(STATE).encode(ITEMS, "item")["item_text"]
    same(got, np.array([[bucket(word, 50) for word in ("big", "red", "red", "books")], [0] * 4, [0] * 4]))
    assert got[0].min() >= 1 and bucket("red", 50) == 12 and words("Cafe\u0301_1 日本") == ["café_1", "日本"]


def test_runs_of_words_are_hashed_as_one() -> None:
    state = STATE.model_copy(update={"ngrams": 2})
    got = Encoder(state).encode(ITEMS, "item")["item_text"]
    same(got[:1], np.array([[bucket(gram, 50) for gram in ("big", "big red", "red", "red red")]]))


def test_floats_are_normalised_and_nan_where_missing_or_not_finite() -> None:
    got = Encoder(STATE).encode(ITEMS, "item")
    nan = np.nan
    np.testing.assert_allclose(got["item_numbers"], np.float32([[0.0, 1.0], [nan, nan], [nan, -1.0]]), atol=1e-7)
    same(got["item_image"], np.float32([[0.5, 1.0], [nan, nan], [nan, 2.0]]))
    assert got["item_numbers"].dtype == np.float32


def test_the_state_survives_json_and_every_form_of_arrow_encodes_alike() -> None:
    wanted = Encoder(STATE).encode(ITEMS, "item")
    again = Encoder(EncoderState.model_validate_json(STATE.model_dump_json()))
    large = ITEMS.set_column(0, "item_category", ITEMS["item_category"].dictionary_encode()).set_column(
        1, "item_tags", ITEMS["item_tags"].cast(pa.large_list(pa.large_string()))
    )
    chunks = pa.concat_tables([large.slice(0, 1), large.slice(1)])
    for form in (ITEMS, chunks, ITEMS.to_batches()[0]):
        got = again.encode(form, "item")
        assert list(got) == [spec.name for spec in again.inputs("item")] == list(wanted)
        for name in wanted:
            same(got[name], wanted[name])


def test_no_rows_and_nothing_known_keep_their_shapes() -> None:
    for table in (ITEMS.slice(0, 0), pa.table({name: pa.nulls(2) for name in ITEMS.column_names})):
        for spec_ in Encoder(STATE).inputs("item"):
            got = Encoder(STATE).encode(table, "item")[spec_.name]
            assert got.shape == (len(table), spec_.length)
            assert (got == 0).all() if spec_.kind == "ids" else np.isnan(got).all()


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("item_tags", None, "needs the column `item_tags`"),
        ("item_category", [1, 2, 3], "`item_category` must hold text"),
        ("item_tags", [[1], [2], [3]], "`item_tags` must hold text"),
        ("item_price", ["1", "2", "3"], "`item_price` must hold numbers"),
        ("item_image", [[1.0], [1.0], [1.0, 2.0]], "`item_image` must have length 2"),
    ],
)
def test_an_absent_or_wrong_column_is_named(column, values, message) -> None:
    table = ITEMS.drop_columns([column])
    if values:
        table = table.append_column(column, pa.array(values))
    with pytest.raises(InputError, match=message):
        Encoder(STATE).encode(table, "item")
