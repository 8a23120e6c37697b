"""Users who have just acted: what they touched is read at once, from bags and by folding into the factors."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import ModelOptions
from pipelines.content.layout import factor_inputs
from pipelines.errors import InputError
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.retrieval.factors import Factors
from pipelines.retrieval.fresh import with_new_items
from pipelines.retrieval.scorer import Scorer
from schemas.fitted import EncoderState, InputSpec

ITEMS = pa.table({"item_id": ["i0", "i1"], "item_tags": [["red", "big"], None], "item_category": ["toys", "books"]})
USERS = pa.table(
    {
        "user_id": ["u0", "new", "newer"],
        "user_recent_tags": [["old"], None, None],
        "user_recent_category": [None, None, None],
        "user_recent_item_id": [["i9"], None, None],
    }
)
NEW = pa.array([["i0", "i1"], ["i1", "gone"], None], pa.list_(pa.string()))


def scorer():
    tables = {"user_recent_tags": "tags", "user_recent_item_id": "item_id"}
    inputs = tuple(
        InputSpec(name=name, side="user", part="preference", kind="ids", length=3, table=table, table_size=4,
                  entity="user", columns=(name,))
        for name, table in tables.items()
    )  # fmt: skip
    item = InputSpec(name="item_tags", side="item", part="content", kind="ids", length=3, table="tags", table_size=4,
                     columns=("item_tags",))  # fmt: skip
    vocabularies = {"tags": ("red", "big"), "item_id": ("i0", "i1")}
    state = EncoderState(inputs=(*inputs, item, *factor_inputs(2)), vocabularies=vocabularies, normalisers={},
                         text_buckets=2, max_words=2, max_values=3)  # fmt: skip
    vectors = {"user": np.array([[1, 2]], "float32"), "item": np.array([[1, 0], [0.5, 1]], "float32")}
    factors = Factors({"user": pa.array(["u0"]), "item": pa.array(["i0", "i1"])}, vectors, 10.0, 0.1, 0)
    options = ModelOptions(embedding_dim=4, content_units=(4,), preference_units=(4,), tower_units=(3,))
    return Scorer(build_dropoutnet(state.inputs, options, 1), state, factors)


def test_new_items_and_their_content_go_to_the_front_of_the_bags() -> None:
    got = with_new_items(USERS, NEW, ITEMS)
    assert got["user_recent_item_id"].to_pylist() == [["i0", "i1", "i9"], ["i1", "gone"], None]
    assert got["user_recent_tags"].to_pylist() == [["red", "big", "old"], None, None]
    assert got["user_recent_category"].to_pylist() == [["toys", "books"], ["books"], None]
    assert with_new_items(USERS, NEW)["user_recent_tags"].to_pylist() == USERS["user_recent_tags"].to_pylist()
    with pytest.raises(InputError, match=r"a list for each user, got 2 for 3"):
        with_new_items(USERS, NEW[:2])


def test_a_user_who_has_just_acted_is_embedded_by_it_and_one_who_has_not_is_new() -> None:
    served = scorer()
    before, after = served.embed("user", USERS), served.embed("user", with_new_items(USERS, NEW))
    assert np.abs(after[1] - before[1]).max() > 1e-3
    np.testing.assert_allclose(after[2], before[2], rtol=1e-6)


def test_factors_fold_in_for_users_without_one_and_known_users_keep_theirs() -> None:
    served = scorer()
    bare = USERS.select(["user_id"]).append_column(
        "user_recent_tags", USERS["user_recent_category"].cast(pa.list_(pa.string()))
    )
    bare = bare.append_column("user_recent_item_id", bare["user_recent_tags"])
    alone = served.embed("user", bare)
    acted = served.embed("user", bare.append_column("user_new_items", NEW))
    np.testing.assert_allclose(acted[[0, 2]], alone[[0, 2]], rtol=1e-6)
    assert np.abs(acted[1] - alone[1]).max() > 1e-3
    folded = served.factors.scaled("user", served.factors.fold_in(NEW))
    given = bare.append_column("user_factor", pa.array([[1.0, 1.0], folded[1].tolist(), None], pa.list_(pa.float32())))
    np.testing.assert_allclose(served.embed("user", given)[1], acted[1], rtol=1e-5)


def test_a_scorer_with_factors_is_saved_with_them_and_reads_ids(tmp_path) -> None:
    served = scorer()
    tables = Scorer.save(str(tmp_path), served.model, served.encoder.state, served.factors)
    assert set(tables) == {"towers", "encoder", "model", "factors"}
    again = Scorer.load(str(tmp_path))
    np.testing.assert_array_equal(again.embed("user", USERS), served.embed("user", USERS))
    assert again.columns("user")["user_id"] == "string"
    assert "user_factor" not in again.columns("user")
