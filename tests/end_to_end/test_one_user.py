"""The smallest world: one user, and items that the catalogue does not know, from the raw log to recommendations."""

import json
import shutil

import mlflow
import pytest
from mlflow import MlflowClient

from jobs import cli
from pipelines.storage import Workspace

CONFIG = """
name: lonely
seed: 1
source:
  interactions:
    - {path: log.csv, user_id: user, item_id: item, event_time: {column: at, unit: s}, action: action}
  items:
    - {path: items.csv, id: item, columns: {genre: {kind: category}, price: {kind: number}}}
labels: {rule: sampled, positive_actions: [click], negatives: 2}
preferences: {windows: [lifetime]}
content: {min_count: 1}
# Each item is seen once, so that what has been seen before is what was not clicked now.
audit: {sample: 4, max_feature_auc: 1}
records: {num_shards: 1}
model: {embedding_dim: 2, content_units: [], preference_units: [], tower_units: [4]}
training: {epochs: 1, batch_size: 16}
evaluation: {ks: [5], bootstrap: 10}
recommend: {k: 50}
storage: {parquet_files: 1}
"""
START = 1_700_000_000
UNLISTED = {"i57", "i58", "i59"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder where `u` sees 60 items, two thirds of a day apart, and clicks on two of three."""
    tmp_path = tmp_path_factory.mktemp("lonely")
    rows = [f"u,i{n},{START + n * 57_600},{'view' if n % 3 == 0 else 'click'}" for n in range(60)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,at,action", *rows]))
    items = [f"i{n},g{n % 2},{n}.5" for n in range(60) if f"i{n}" not in UNLISTED]
    (tmp_path / "items.csv").write_text("\n".join(["item,genre,price", *items]))
    (tmp_path / "lonely.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def thaw(spark, world, capsys, monkeypatch):
    """Runs a command in the world: (exit code, what it said)."""
    monkeypatch.setattr("pipelines.spark.stop_spark", lambda: None)  # other tests go on with this session

    def run(command, *more) -> tuple[int, str]:
        where = ["--config", str(world / "lonely.yaml"), "--data", str(world), "--out", str(world / "out")]
        code = cli.main([command, *where, *more])
        return code, capsys.readouterr().err

    yield run
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def current(world):
    """Dataset -> its current version."""
    return Workspace.open(str(world / "out")).current


def test_one_user_and_items_without_content_go_through_the_whole_chain_with_a_note(thaw, world) -> None:
    out = world / "out"
    code, said = thaw("run")
    assert code == 0, said
    notes = [line for line in said.splitlines() if line.startswith("note: ")]
    assert [note.partition(";")[0] for note in notes] == [
        "note: 3 items of the log are not in source.items, and so without content",
        "note: every example is of one user: nothing can be learned from how users differ",
        "note: not checked: raw rows: items[0]",
    ]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["audit"]["passed"] is True
    assert 0 <= summary["metrics"]["test"]["all"]["ndcg@10"]["value"] <= 1
    assert summary["metrics"]["test"]["all"]["ndcg@10"]["n"] == 1
    found = Workspace.open(str(out)).current("recommendations")
    lists = found.read_table("recommendations").to_pydict()
    assert set(lists["user_id"]) == {"u"}
    assert set(lists["item_id"]) == {f"i{n}" for n in range(0, 60, 3)}  # what was not clicked, listed or not
    embedded = found.read_table("item_embeddings").to_pydict()
    lengths = {i: sum(x * x for x in v) for i, v in zip(embedded["item_id"], embedded["embedding"], strict=True)}
    assert set(lengths) >= UNLISTED
    assert all(length == pytest.approx(1, abs=1e-4) for length in lengths.values())


def test_building_the_examples_again_gives_the_same_digest_with_profile_and_pages(thaw, current) -> None:
    before = current("examples")
    assert {"profile", "features", "data_docs"} <= set(before.manifest.tables)
    code, said = thaw("build_examples", "--force")
    assert code == 0, said
    after = current("examples")
    assert after.path != before.path
    assert after.manifest.content_digest == before.manifest.content_digest
    after.verify()


def test_features_that_the_configuration_refuses_are_not_published_and_end_with_code_3(thaw, current) -> None:
    before = current("examples")
    code, said = thaw("build_examples", "--set", "features.max_missing_share={item_event_*: 0.01}")
    assert code == 3
    assert "item_event_count_lifetime must be missing in at most 1.0% of the examples" in said
    assert "Traceback" not in said
    assert current("examples") == before


def test_training_refuses_what_was_not_audited_and_a_trial_is_marked_and_never_promoted(thaw, current, world) -> None:
    workspace = Workspace.open(str(world / "out"))
    champion = current("promotion").manifest.notes["version"]
    client = MlflowClient(f"sqlite:///{world}/out/mlflow.db", f"sqlite:///{world}/out/mlflow.db")
    version = client.get_model_version("lonely", champion)
    assert version.tags["thaw.audit"] == client.get_run(version.run_id).data.tags["thaw.audit"] == "passed"
    assert "passed the leakage audit" in version.description

    shutil.rmtree(world / "out" / "audit")
    code, said = thaw("write_records")
    assert code == 2 and "run `thaw audit_leakage` first" in said

    trial = ("--set", "training.allow_unaudited=true")
    code, said = thaw("write_records", *trial)
    assert code == 0 and "note: these examples were not audited" in said
    assert workspace.current("records").manifest.facts["audit"] == {"passed": False}
    code, said = thaw("train_dropoutnet")
    assert code == 3
    assert "records must be of examples that passed the audit" in said and "Traceback" not in said
    assert current("model").manifest.notes["version"] == champion

    for job in ("train_dropoutnet", "evaluate_model"):
        code, said = thaw(job, *trial)
        assert code == 0, said
    made = current("model").manifest.notes["version"]
    version = client.get_model_version("lonely", made)
    assert version.tags["thaw.audit"] == client.get_run(version.run_id).data.tags["thaw.audit"] == "unaudited"
    assert version.description.startswith("UNAUDITED")
    code, said = thaw("promote_model", *trial)
    assert code == 3
    assert "its training examples must have passed the leakage audit, got unaudited" in said
    assert client.get_model_version_by_alias("lonely", "champion").version == version.version - 1
