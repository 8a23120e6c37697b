"""Items' content to one of their categories: by training items alone, and as Spark would fit the encoder."""

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs import train_content_classifier as job
from jobs.launch import execute
from jobs.train_content_classifier import JOB
from pipelines.config import ContentOptions, SplitOptions, parse_config
from pipelines.content.items import fit_items, labelled_items
from pipelines.errors import ConfigError, InputError
from pipelines.models.saved_items import SavedItems
from pipelines.storage import Workspace, write_arrow
from schemas.content import content_table
from schemas.manifest import Manifest, TableEntry

KINDS = {"genre": "category", "tags": "categories", "price": "number", "text": "text", "look": "vector"}
RAW = {
    "name": "shop",
    "seed": 3,
    "source": {
        "interactions": [{"path": "x", "user_id": "u", "item_id": "i", "event_time": {"column": "t"}}],
        "items": [{"path": "y", "id": "i", "columns": {name: {"kind": kind} for name, kind in KINDS.items()}}],
    },
    "labels": {"rule": "impressions", "positive_actions": ["click"]},
    "split": {"validation_share": 0.3, "test_share": 0.1},
}


def items(rows=120) -> list[dict]:
    """Tags and words tell the genre; an older version of each item says something else."""
    found = []
    for row in range(rows):
        genre = ("jazz", "rock")[row % 2]
        new = {"genre": genre, "tags": [f"{genre}-{row % 3}", "all"], "price": float(row), "text": f"some {genre}"}
        old = {"genre": "folk", "tags": None, "price": None, "text": None}
        for valid_from, version in ((0, old), (5, new)):
            look = [float(row % 7), 1.0]
            found.append(
                {"item_id": f"i{row}", "valid_from": valid_from, "created_at": 0, "title": "", "look": look, **version}
            )
    found.append({**found[-1], "item_id": "nameless", "genre": None})
    return found


@pytest.fixture(autouse=True)
def registered(monkeypatch, request):
    """Nothing goes to MLflow, but for the test of that."""
    if "registered" not in request.node.name:
        monkeypatch.setattr(job, "log_content_classifier", lambda *told: {"run_id": "r"})
    yield
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    workspace = Workspace.open(str(tmp_path / "out"))
    contract = content_table("item", KINDS)
    path = workspace.stage("clean", "c" * 16)
    table = write_arrow(path, "items", pa.Table.from_pylist(items()), contract)
    workspace.publish(path, Manifest(dataset="clean", tables={"items": table}, seed=1, key="c" * 16))
    return workspace


def trained(workspace, **classifier):
    return execute(JOB, parse_config({**RAW, "classifier": classifier}), workspace, None).dataset


@pytest.mark.parametrize("family", ["linear", "two_layer", "nearest"])
def test_a_category_is_told_from_the_other_columns_by_each_family(workspace, family, capsys) -> None:
    options = {"schedule": {"learning_rate": 0.05}, "epochs": 5, "batch_size": 16, "neighbours": {"k": 3}}
    found = trained(workspace, label="genre", family=family, **options)
    facts = found.manifest.facts
    assert facts["classes"] == ["jazz", "rock"]
    assert facts["best"]["validation_accuracy"] > 0.9 > facts["most_frequent"]
    counts = {split: sum(one["classes"].values()) for split, one in facts["splits"].items()}
    assert sum(counts.values()) == 120 and counts["train"] > counts["validation"] > counts["test"] > 0
    assert "1 items are left out, with none of genre" in capsys.readouterr().err
    state = found.read_json("encoder")
    assert not [spec for spec in state["inputs"] if "genre" in spec["name"]]


@pytest.mark.parametrize("family", ["two_layer", "nearest"])
def test_what_is_registered_tells_labels_from_raw_content_and_takes_missing_values(workspace, family) -> None:
    options = {"schedule": {"learning_rate": 0.05}, "epochs": 5, "batch_size": 16, "neighbours": {"k": 3}}
    found = trained(workspace, label="genre", family=family, **options)
    notes = found.manifest.notes
    assert (notes["name"], notes["version"]) == ("shop_genre_classifier", "1")
    served = mlflow.pyfunc.load_model(f"models:/{notes['name']}@challenger")
    rows = items()[1:41:2]
    columns = ("tags", "price", "text", "look")
    frame = pd.DataFrame([{f"item_{name}": row[name] for name in columns} for row in rows])
    answer = served.predict(frame)
    raw = pa.table({name: pa.array(frame[name].tolist()) for name in frame.columns})
    saved = SavedItems.load(found.path).probabilities(raw)
    np.testing.assert_allclose(answer["probabilities"].tolist(), saved, atol=1e-5)
    assert answer["label"].tolist() == [("jazz", "rock")[place] for place in saved.argmax(axis=1)]
    (alone,) = served.predict(pd.DataFrame({"item_tags": [["rock-1", "all"]]}))["label"]
    if family == "two_layer":  # to nearest neighbours what is missing is as far as what differs
        assert answer["label"].tolist() == [row["genre"] for row in rows] and alone == "rock"


def test_vectors_that_the_workspaces_own_encoder_made_of_labels_tell_nothing(workspace, capsys) -> None:
    (source,) = RAW["source"]["items"]
    columns = {name: column for name, column in source["columns"].items() if name != "look"}
    vectors = {"dataset": "content_vectors", "columns": {"look": {"kind": "vector", "column": "vector"}}}
    sources = {**RAW["source"], "items": [{**source, "columns": columns}, vectors]}
    chosen = parse_config({**RAW, "source": sources, "classifier": {"label": "genre", "family": "linear", "epochs": 1}})
    for key, of_its_own in (("other", False), ("own", True)):
        tables = {"encoder": TableEntry(format="file")} if of_its_own else {}
        staging = workspace.stage("content_vectors", key * 16)
        workspace.publish(staging, Manifest(dataset="content_vectors", tables=tables, seed=1, key=key * 16))
        state = execute(JOB, chosen, workspace, None).dataset.read_json("encoder")
        assert ("item_look" in [spec["name"] for spec in state["inputs"]]) is not of_its_own
        assert ("note: look is left out" in capsys.readouterr().err) is of_its_own


def test_items_of_the_other_splits_do_not_change_the_encoder() -> None:
    table = labelled_items(pa.Table.from_pylist(items()), "genre", KINDS, SplitOptions(), 3)
    train = table.rows.filter(pc.equal(table.rows["split"], "train"))
    state = fit_items(train, table.features, ContentOptions())
    prices = np.array(train["item_price"])
    assert state.normalisers["item_price"].transform == "log1p"
    np.testing.assert_allclose(state.normalisers["item_price"].mean, np.log1p(prices).mean(), rtol=1e-3)
    assert state.vocabularies["tags"][0] == "all"
    shuffled = table.rows.take(np.random.default_rng(0).permutation(len(table.rows)))
    again = fit_items(shuffled.filter(pc.equal(shuffled["split"], "train")), table.features, ContentOptions())
    assert again == state


def test_what_is_no_category_and_items_without_anything_else_are_told(workspace) -> None:
    with pytest.raises(ConfigError, match=r"must be a category of items \(genre, tags\), got 'price'"):
        trained(workspace, label="price")
    with pytest.raises(ConfigError, match="got none; set it, or --label"):
        trained(workspace)
    with pytest.raises(ConfigError, match=r"classifier\.augment must be left out for items"):
        trained(workspace, label="genre", augment={"flip": True})
    with pytest.raises(ConfigError, match=r"must go to linear or two_layer, got classifier\.family plain"):
        trained(workspace, label="genre", family="plain")
    with pytest.raises(ConfigError, match="must have content beside 'genre'"):
        labelled_items(pa.Table.from_pylist(items(4)), "genre", {"genre": "category"}, SplitOptions(), 1)
    table = labelled_items(pa.Table.from_pylist(items(4)), "genre", KINDS, SplitOptions(), 3)
    with pytest.raises(InputError, match="must have training rows"):
        fit_items(table.rows.slice(0, 0), table.features, ContentOptions())
