"""Training, the gate, serving, rollback and lineage over a real MLflow server, which also goes away."""

import json
import shutil
import threading
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest

from jobs.cli import main
from pipelines.evaluation.inputs import read_split
from pipelines.retrieval.scorer import Scorer
from pipelines.storage import Workspace
from pipelines.tracking.registered import registered
from pipelines.tracking.served_check import check_served, scores_of_records
from tests.jobs.shop import make_shop, write_config
from tests.jobs.tracking_server import TrackingServer, free_port, serving

WORSE = [
    "--set",
    "training.epochs=1",
    "--set",
    "training.learning_rate=1e-6",
    "--set",
    "training.table_learning_rate=1e-6",
]


class Shop:
    """A workspace whose runs and models are the server's."""

    def __init__(self, folder: Path) -> None:
        self.server, self.out = TrackingServer(folder), folder / "out"
        self.config = write_config(folder / "shop.yaml", tracking={"uri": self.server.uri})
        self.workspace = make_shop(self.config, self.out)

    def thaw(self, job: str, *more: str) -> int:
        return main([job, "--config", str(self.config), "--out", str(self.out), *more])

    def judged(self, *more: str) -> int:
        """Exit code of the gate for a model that is trained and evaluated now."""
        assert self.thaw("train_dropoutnet", *more) == self.thaw("evaluate_model", *more) == 0
        return self.thaw("promote_model", *more)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The server and the first champion."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.server.start()
    try:
        assert shop.judged() == 0
        yield shop
    finally:
        shop.server.stop()
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)


@pytest.fixture
def client(shop):
    return mlflow.MlflowClient(shop.server.uri, shop.server.uri)


def champion(client) -> str:
    return str(client.get_model_version_by_alias("shop", "champion").version)


def test_mlflow_serves_over_http_what_the_scorer_says_in_process(shop, client, tmp_path) -> None:
    version = registered(client, "shop@champion")
    rows = read_split(shop.workspace.current("examples"), "test").slice(0, 20)
    scorer = Scorer.load(shop.workspace.current("model").path)
    columns = [*scorer.columns("user"), *scorer.columns("item")]
    body = {"dataframe_split": {"columns": columns, "data": [[row[c] for c in columns] for row in rows.to_pylist()]}}
    address = f"http://127.0.0.1:{free_port()}"
    arguments = ["models", "serve", "-m", version.uri, "--env-manager", "local", "--port", address.rpartition(":")[2]]
    with serving(arguments, f"{address}/ping", tmp_path / "log", MLFLOW_TRACKING_URI=shop.server.uri):
        asked = urllib.request.Request(
            f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            served = json.load(answer)["predictions"]
    users, items = scorer.embed("user", rows), scorer.embed("item", rows)
    np.testing.assert_allclose([row["score"] for row in served], scorer.score_pairs(users, items), atol=1e-4)
    np.testing.assert_allclose([row["item_embedding"] for row in served], items, atol=1e-5)


def test_a_worse_model_stays_challenger_and_a_registered_one_that_was_altered_is_found(
    shop, client, capsys, monkeypatch
) -> None:
    before, good = champion(client), shop.workspace.current("model")
    assert shop.judged(*WORSE) == 3
    said = capsys.readouterr().err
    assert "of shop stays challenger: ndcg@10 on test/all must be at least" in said
    assert champion(client) == before
    challenger = registered(client, "shop@challenger")
    assert shop.thaw("lineage", "shop@challenger") == 0
    assert "  gate          REFUSED" in capsys.readouterr().out
    # The registry's file is another than the one that was trained.
    records, examples = (shop.workspace.current(name) for name in ("records", "examples"))
    assert check_served(challenger, shop.workspace.current("model"), records, examples, 20).passed
    mixed_up = check_served(challenger, good, records, examples, 20)
    assert not mixed_up.passed and "20 of 20 test examples differ, such as" in mixed_up.detail

    def lacks(uri):
        raise ModuleNotFoundError("No module named 'gone'", name="gone")

    monkeypatch.setattr(mlflow.pyfunc, "load_model", lacks)
    broken = check_served(challenger, shop.workspace.current("model"), records, examples, 20)
    assert not broken.passed and "cannot be loaded: ModuleNotFoundError: No module named 'gone'; `thaw" in broken.detail


def test_a_rollback_is_one_command_and_what_was_rolled_back_is_not_promoted_again(shop, client, capsys) -> None:
    before = champion(client)
    better = ["--set", "training.epochs=4"]
    assert shop.judged(*better, "--set", "promotion.max_loss_against_champion=1") == 0
    after = champion(client)
    assert after != before
    assert shop.thaw("rollback") == 0
    assert f"version {before} is champion again, in place of version {after}" in capsys.readouterr().out
    assert champion(client) == before
    assert shop.thaw("promote_model", *better, "--set", "promotion.max_loss_against_champion=1") == 3
    assert f"`thaw rollback --to {after} --model shop` brings it back" in capsys.readouterr().err
    assert shop.thaw("rollback") == 2
    assert "none is known; name one: --to VERSION" in capsys.readouterr().err
    assert shop.thaw("rollback", "--to", after) == 0 and champion(client) == after


def test_lineage_tells_from_the_server_alone_what_a_version_was_made_of(shop, client, capsys, tmp_path) -> None:
    workspace = shop.workspace
    digests = {name: workspace.current(name).manifest.content_digest for name in ("clean", "examples", "records")}
    hidden = shutil.move(shop.out, tmp_path / "gone")
    try:
        assert shop.thaw("lineage", "shop/1") == 0
        text = capsys.readouterr().out
        assert shop.thaw("lineage", "models:/shop/1", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert shop.thaw("lineage", "shop/99") == shop.thaw("lineage", "shop@nobody") == 2
        assert not shop.out.exists()
    finally:
        shutil.move(hidden, shop.out)
    assert {name: told["data"][name]["digest"] for name in digests} == digests
    assert told["data"]["clean"]["raw_files"] == "f" * 64 and "raw files ffffffffffff" in text
    assert told["seed"] == 1 and told["config"]["training"]["epochs"] == 3 and told["audit"]["state"] == "passed"
    version = client.get_model_version("shop", "1")
    (model,) = (m for m in workspace.published("model") if m.manifest.notes.get("version") == "1")
    assert told["code_version"] == model.manifest.code_version != told["data"]["records"]["code_version"]
    # What a run keeps by itself says the same, where its lineage.json is gone.
    assert client.get_run(version.run_id).data.tags["thaw.code_version"] == model.manifest.code_version
    assert told["metrics"]["test/all/ndcg_at_10"] > 0 and told["gate"]["passed"] and told["missing"] == []
    assert told["champion"][0]["how"] == "promoted" and " UTC to " in text
    for word in ("shop version 1", digests["records"][:12], "audit         passed", "scores_as_trained"):
        assert word in text


def test_a_training_whose_server_is_away_is_kept_and_registered_when_it_is_back(shop, capsys, monkeypatch) -> None:
    another = ["--set", "seed=2", "--set", "training.epochs=1"]
    shop.server.stop()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    # Not 2: trying again may do.
    assert shop.thaw("train_dropoutnet", *another) == 1
    said = capsys.readouterr().err
    assert "note: MLflow's server does not answer; trying again" in said
    assert "note: what train_dropoutnet made is kept; the same command, without --force, registers it" in said
    assert "thaw: MLflow must be reachable, its server does not answer" in said and "Traceback" not in said
    kept = Workspace.open(str(shop.out)).current("model")
    assert "version" not in kept.manifest.notes

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "8")
    back = threading.Timer(3, shop.server.start)
    back.start()
    try:
        assert shop.thaw("train_dropoutnet", *another) == 0
    finally:
        back.join()
    said = capsys.readouterr().err
    assert "note: MLflow's server does not answer; trying again" in said and " unchanged " in said
    now = shop.workspace.current("model")
    assert (now.path, now.manifest.made_at) == (kept.path, kept.manifest.made_at)
    assert registered(mlflow.MlflowClient(shop.server.uri), "shop@challenger").version == now.manifest.notes["version"]
    records = shop.workspace.current("records")
    rows = read_split(shop.workspace.current("examples"), "test").slice(0, 3)
    assert len(scores_of_records(Scorer.load(now.path), records, rows)) == 3
