"""A saved scorer is the same scorer: same bytes for same weights, same embeddings after loading."""

import json
import time

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import ModelOptions
from pipelines.errors import CorruptDatasetError
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.retrieval.scorer import Scorer
from pipelines.retrieval.tower import load_tower, save_tower
from schemas.fitted import EncoderState, InputSpec, Normaliser

OPTIONS = ModelOptions(embedding_dim=4, content_units=(6,), preference_units=(5,), tower_units=(8, 3))
STATE = EncoderState(
    inputs=(
        InputSpec(name="user_recent_tags", side="user", part="preference", kind="ids", length=3, table="tags",
                  table_size=4, columns=("user_recent_tags",)),
        InputSpec(name="item_tags", side="item", part="content", kind="ids", length=3, table="tags", table_size=4,
                  columns=("item_tags",)),
        InputSpec(name="item_text", side="item", part="content", kind="ids", length=4, table="text", table_size=17,
                  columns=("item_text",)),
        InputSpec(name="item_look", side="item", part="content", kind="floats", length=2, columns=("item_look",)),
        InputSpec(name="item_statistics", side="item", part="preference", kind="floats", length=1,
                  columns=("item_click_count_7d",)),
    ),
    vocabularies={"tags": ("red", "blue")},
    normalisers={"item_click_count_7d": Normaliser(transform="log1p", mean=1.0, std=2.0)},
    text_buckets=16,
    max_words=4,
    max_values=3,
)  # fmt: skip
ITEMS = pa.table(
    {
        "item_tags": [["red"], ["blue", "new"], None, []],
        "item_text": ["a warm coat", "a hat", None, ""],
        "item_look": [[0.5, 1.0], None, [0.0, 0.0], [1.0, 2.0]],
        "item_click_count_7d": [3.0, None, 0.0, 1e6],
    }
)
USERS = pa.table({"user_recent_tags": [["red", "red"], None]})


@pytest.fixture
def scorer():
    return Scorer(build_dropoutnet(STATE.inputs, OPTIONS, 3), STATE)


def test_a_scorer_that_was_saved_and_loaded_embeds_alike(scorer, tmp_path) -> None:
    scorer.model.bias.assign(-2.0)
    tables = Scorer.save(str(tmp_path), scorer.model, STATE)
    loaded = Scorer.load(str(tmp_path))
    assert set(tables) == {"towers", "encoder", "model"}
    assert (loaded.scale, loaded.bias) == (scorer.scale, -2.0)
    for side, rows in (("user", USERS), ("item", ITEMS)):
        for missing in (False, True):
            before = scorer.embed(side, rows, missing_preference=missing)
            np.testing.assert_array_equal(loaded.embed(side, rows, missing_preference=missing), before)
            assert before.dtype == np.float32
            assert before.shape == (rows.num_rows, scorer.dimension)


def test_equal_weights_make_equal_bytes_whenever_they_are_written(scorer, tmp_path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        Scorer.save(str(tmp_path / name), scorer.model, STATE)
        time.sleep(2.1 if name == "first" else 0)  # a zip file's clock has steps of two seconds
    for file in sorted((tmp_path / "first").iterdir()):
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_embeddings_do_not_depend_on_the_batch(scorer) -> None:
    whole = scorer.embed("item", ITEMS)
    np.testing.assert_allclose(scorer.embed("item", ITEMS, batch_size=3), whole, rtol=1e-5, atol=1e-6)
    assert scorer.embed("item", ITEMS.slice(0, 0)).shape == (0, 3)


def test_scores_are_scale_times_cosine_plus_bias(scorer) -> None:
    users, items = scorer.embed("user", USERS), scorer.embed("item", ITEMS)
    cosines = (users * items[:2]).sum(axis=1)
    np.testing.assert_allclose(scorer.score_pairs(users, items[:2]), scorer.scale * cosines + scorer.bias, rtol=1e-4)


def test_the_columns_it_reads_are_told_with_their_types(scorer) -> None:
    assert scorer.columns("user") == {"user_recent_tags": "list<string>"}
    assert scorer.columns("item") == {
        "item_tags": "list<string>",
        "item_text": "string",
        "item_look": "list<float32>",
        "item_click_count_7d": "float64",
    }


def test_files_that_are_missing_or_of_another_model_are_refused(scorer, tmp_path) -> None:
    with pytest.raises(CorruptDatasetError, match=r"encoder\.json, it is missing"):
        Scorer.load(str(tmp_path))
    Scorer.save(str(tmp_path), scorer.model, STATE)
    towers = (tmp_path / "towers.npz").read_bytes()
    wider = build_dropoutnet(STATE.inputs, OPTIONS.model_copy(update={"tower_units": (9, 3)}), 3)
    Scorer.save(str(tmp_path), wider, STATE)
    (tmp_path / "towers.npz").write_bytes(towers)
    with pytest.raises(CorruptDatasetError, match="must fit the model"):
        Scorer.load(str(tmp_path))
    (tmp_path / "towers.npz").write_bytes(towers[:100])
    with pytest.raises(CorruptDatasetError, match=r"must be an \.npz"):
        Scorer.load(str(tmp_path))


@pytest.mark.parametrize(("side", "rows"), [("user", USERS), ("item", ITEMS)])
def test_one_tower_saved_by_itself_embeds_as_both_do_and_holds_nothing_of_the_other(
    scorer, tmp_path, side, rows
) -> None:
    tables = save_tower(str(tmp_path), scorer, side)
    assert set(tables) == {f"{side}_tower_towers", f"{side}_tower_encoder", f"{side}_tower_model"}
    tower = load_tower(str(tmp_path), side)
    for missing in (False, True):
        embedded = tower.embed(rows, missing_preference=missing)
        np.testing.assert_array_equal(embedded, scorer.embed(side, rows, missing_preference=missing))
    other = "item" if side == "user" else "user"
    with np.load(tmp_path / f"{side}_tower" / "towers.npz") as weights:
        assert not [name for name in weights.files if other in name.split("/")]
    assert f'"{other}_' not in (tmp_path / f"{side}_tower" / "encoder.json").read_text()
    with pytest.raises(CorruptDatasetError, match=rf"{other}_tower must hold a saved tower, it does not"):
        load_tower(str(tmp_path), other)


def test_a_scorer_of_another_layout_is_refused_and_one_saved_before_there_were_later_options_is_read(
    scorer, tmp_path
) -> None:
    Scorer.save(str(tmp_path), scorer.model, STATE)
    card = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**card, "format": 2}))
    with pytest.raises(CorruptDatasetError, match="must hold a scorer of format 1, got 2; read it with the Thaw"):
        Scorer.load(str(tmp_path))
    save_tower(str(tmp_path), scorer, "item")
    (tmp_path / "item_tower" / "model.json").write_text(json.dumps({**card, "format": 2}))
    with pytest.raises(CorruptDatasetError, match="item_tower must hold a scorer of format 1, got 2"):
        load_tower(str(tmp_path), "item")
    old = {
        name: card["options"][name] for name in ("embedding_dim", "content_units", "preference_units", "tower_units")
    }
    (tmp_path / "model.json").write_text(json.dumps({"kind": "dropoutnet", "options": old}))
    np.testing.assert_array_equal(Scorer.load(str(tmp_path)).embed("item", ITEMS), scorer.embed("item", ITEMS))
    for wrong in ('{"kind": "forest", "options": {}}', '{"options": {"depth": 3}}', "[]", "no card"):
        (tmp_path / "model.json").write_text(wrong)
        with pytest.raises(CorruptDatasetError, match="must hold a saved scorer"):
            Scorer.load(str(tmp_path))
