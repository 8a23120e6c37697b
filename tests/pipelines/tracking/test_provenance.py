"""What a registered model was made from: by its manifests, and by digests alone where they are gone or damaged."""

from pathlib import Path

from pipelines.config import parse_config
from pipelines.storage import Dataset, Workspace
from pipelines.tracking.provenance import provenance
from schemas.manifest import Manifest

CONFIG = parse_config({"name": "x", "seed": 1, "labels": {"rule": "sampled", "positive_actions": ["click"]}})


def test_an_old_version_that_is_damaged_costs_its_own_words_and_no_registration(tmp_path) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    old, new = (
        workspace.publish(workspace.stage("records", key), Manifest(dataset="records", tables={}, seed=1, key=key))
        for key in ("a" * 64, "b" * 64)
    )
    parents = {"records": new.manifest.content_digest}
    model = Dataset("", Manifest(dataset="model", tables={}, seed=1, parents=parents))
    assert "made_at" in provenance(CONFIG, workspace, model)["data"]["records"]
    Path(old.path, "manifest.json").write_text("{")
    assert provenance(CONFIG, workspace, model)["data"] == {"records": {"digest": parents["records"]}}
