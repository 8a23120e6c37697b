"""The main job as a user runs it, on the small demo: every stage real, resumable, and the same from the same seed."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from jobs.cli import main
from pipelines.config import load_config
from pipelines.evaluation.report import write_report
from pipelines.retrieval.tower import load_tower
from pipelines.storage import Workspace

ROOT = Path(__file__).resolve().parents[2]
THAW = Path(sys.executable).with_name("thaw")
SMALL = ["--config", str(ROOT / "conf/demo.yaml"), "--config", str(ROOT / "tests/end_to_end/small_demo.yaml")]


def thaw(*arguments: str, out: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "THAW_DATA"}
    command = [str(THAW), *arguments, *SMALL, "--out", str(out)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole run: its folder and what it printed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = thaw("run", out=out)
    assert done.returncode == 0, done.stderr[-4000:]
    return out, done


def summary_of(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def test_one_command_leads_from_raw_logs_to_a_champion(finished) -> None:
    out, _ = finished
    summary = summary_of(out)
    assert summary["model"]["alias"] == "champion"
    assert summary["audit"]["passed"] is True
    assert summary["records"]["shards"] >= 3
    assert set(summary["timings_s"]) >= {"check_quality", "train_dropoutnet", "recommend"}
    assert {"all", "warm", "cold_item", "cold_user", "cold_both"} <= set(summary["metrics"]["test"])
    assert {"popularity", "random", "content_knn", "content_only", "best_achievable"} <= set(summary["baselines"])


def test_the_faults_planted_in_the_demo_are_found_to_the_row(finished) -> None:
    out, _ = finished
    planted = Workspace.open(str(out)).current("demo_data").manifest.facts["planted"]
    rows = summary_of(out)["rows"]
    assert rows["in"] == planted["rows"] == rows["out"] + rows["quarantined"] + rows["duplicates"]
    assert (rows["quarantined"], rows["duplicates"]) == (planted["malformed"], planted["duplicates"])


def test_the_items_pictures_are_read_by_an_encoder_that_learned_from_none_of_after_the_training_period(
    finished,
) -> None:
    out, _ = finished
    workspace = Workspace.open(str(out))
    (table,) = Path(workspace.current("demo_data").path).glob("images.csv")
    listed = {row["picture"]: int(row["listed"]) for row in csv.DictReader(table.open())}
    end = workspace.current("records").manifest.as_of["validation_start"]
    images = workspace.current("image_records").read_table("images").to_pylist()
    assert {row["split"] for row in images if listed[Path(row["name"]).name] * 1000 >= end} == {"test"}
    assert {row["split"] for row in images if listed[Path(row["name"]).name] * 1000 < end} == {"train", "validation"}
    model = json.loads((Path(workspace.current("model").path) / "encoder.json").read_text())
    assert "item_image" in [spec["name"] for spec in model["inputs"]]


def test_every_published_file_is_what_its_manifest_says(finished) -> None:
    out, _ = finished
    for pointer in out.glob("*/CURRENT"):
        Workspace.open(str(out)).current(pointer.parent.name).verify()


def test_a_second_run_does_nothing_again_and_keeps_every_digest(finished) -> None:
    out, _ = finished
    before = summary_of(out)
    again = thaw("run", out=out)
    assert again.returncode == 0, again.stderr[-4000:]
    assert again.stderr.count(" unchanged ") == 11  # all but promote_model and recommend, which act on the registry
    assert "log4j" not in again.stderr  # and Spark, which mentions it, was not started for nothing
    assert summary_of(out)["records"] == before["records"]
    assert summary_of(out)["metrics"] == before["metrics"]


def test_variants_are_trained_on_the_same_records_and_drawn_in_the_report(finished, tmp_path) -> None:
    out, _ = finished
    varied = ["--vary", "model.preference_dropout=0.5,1", "--seeds", "1", "--set", "training.epochs=1"]
    assert main(["ablate", *SMALL, *varied, "--out", str(out)]) == 0
    workspace = Workspace.open(str(out))
    default, half, always = workspace.current("ablation").read_json("results")["variants"]
    assert half["metrics"] == default["metrics"] and half["is_default"]
    assert always["metrics"]["all"]["auc"]["n"] == default["metrics"]["all"]["auc"]["n"] > 0
    assert always["differences"]["all"]["auc"]["value"] != 0
    write_report(workspace, load_config(SMALL[1::2]), summary_of(out), str(tmp_path / "report.html"))
    assert "model.preference_dropout=1" in (tmp_path / "report.html").read_text()


def test_the_registered_model_scores_raw_values_and_takes_missing_ones_for_new(finished) -> None:
    out, _ = finished
    # Both: MLflow keeps a registry that another test of this process has set.
    mlflow.set_tracking_uri(f"sqlite:///{out}/mlflow.db")
    mlflow.set_registry_uri(f"sqlite:///{out}/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/small_demo@champion")
    names = [column.name for column in model.metadata.get_input_schema().inputs]
    known = Workspace.open(str(out)).current("preferences").read_table("serving_items").slice(0, 2).to_pandas()
    rows = known[[name for name in names if name in known.columns]].reindex(columns=names)
    scored = model.predict(rows.astype(object).where(rows.notna(), None))
    assert len(scored) == 2
    assert scored["score"].notna().all()
    assert all(abs(sum(x * x for x in vector) - 1) < 1e-4 for vector in scored["item_embedding"])
    assert scored["item_embedding"][0] != scored["item_embedding"][1]
    assert model.predict(pd.DataFrame({"item_price": [1.0]}))["score"].notna().all()


def test_what_serves_raw_rows_gives_the_published_embeddings_and_the_same_lists(finished) -> None:
    out, _ = finished
    mlflow.set_tracking_uri(f"sqlite:///{out}/mlflow.db")
    mlflow.set_registry_uri(f"sqlite:///{out}/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/small_demo@champion")
    workspace = Workspace.open(str(out))
    preferences, published = workspace.current("preferences"), workspace.current("recommendations")
    served = {}
    for side in ("user", "item"):
        rows = preferences.read_table(f"serving_{side}s").sort_by(f"{side}_id").to_pandas()
        names = [column.name for column in model.metadata.get_input_schema().inputs]
        scored = model.predict(rows.reindex(columns=names).astype(object).where(lambda frame: frame.notna(), None))
        served[side] = np.array(scored[f"{side}_embedding"].tolist())
        table = published.read_table(f"{side}_embeddings")
        assert table[f"{side}_id"].to_pylist() == rows[f"{side}_id"].tolist()
        batch = np.array(table["embedding"].to_pylist())
        np.testing.assert_allclose(served[side], batch, atol=1e-5)
        # One tower by itself, without the other and without MLflow, says the same.
        alone = load_tower(published.path, side).embed(preferences.read_table(f"serving_{side}s").sort_by(f"{side}_id"))
        np.testing.assert_allclose(alone, batch, atol=1e-6)
    lists = published.read_table("recommendations").to_pandas().sort_values(["user_id", "rank"])
    items = published.read_table("item_embeddings")["item_id"].to_pylist()
    users = published.read_table("user_embeddings")["user_id"].to_pylist()
    clicked = workspace.current("clean").read_table("interactions", ["user_id", "item_id", "action"]).to_pandas()
    clicked = set(clicked[clicked["action"] == "click"][["user_id", "item_id"]].itertuples(index=False, name=None))
    scores = served["user"] @ served["item"].T
    for row, user in enumerate(users):
        mine = lists[lists["user_id"] == user]["item_id"].tolist()
        values = {item: scores[row, n] for n, item in enumerate(items) if (user, item) not in clicked}
        best = sorted(values.values(), reverse=True)[: len(mine)]
        # Equal but for the order of scores that agree to 1e-5.
        np.testing.assert_allclose([values[item] for item in mine], best, atol=1e-5)


def test_everyone_gets_recommendations_and_nobody_what_they_clicked(finished) -> None:
    out, _ = finished
    workspace = Workspace.open(str(out))
    lists = workspace.current("recommendations").read_table("recommendations").to_pandas()
    users = workspace.current("clean").read_table("users", ["user_id"]).to_pandas()
    assert set(users["user_id"]) <= set(lists["user_id"])
    log = workspace.current("clean").read_table("interactions", ["user_id", "item_id", "action"]).to_pandas()
    clicked = log[log["action"] == "click"]
    assert lists.merge(clicked, on=["user_id", "item_id"]).empty


def test_the_report_is_one_file_that_needs_nothing_else(finished) -> None:
    out, _ = finished
    html = (out / "report.html").read_text()
    assert "<script src" not in html
    assert "<link" not in html
    for word in ("Leakage", "cold item", "popularity", "quarantined"):
        assert word in html
