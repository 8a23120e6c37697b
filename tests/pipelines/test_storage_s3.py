"""What is ours works on S3 as on a disk: datasets and their damage, records, the training's input, one message."""

import os

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from jobs import cli
from pipelines.errors import CorruptDatasetError, WorkspaceError
from pipelines.storage import Workspace, open_dataset, write_arrow, write_json, write_parquet
from schemas.columns import Column, Table
from schemas.manifest import Manifest

NUMBERS = Table("numbers", (Column("n", "int64"),), key=("n",))
KEY = "0123456789abcdef" * 4


def publish(workspace: Workspace, numbers=(1, 2)):
    staging = workspace.stage("things", KEY)
    tables = {
        "numbers": write_arrow(staging, "numbers", pa.table({"n": list(numbers)}), NUMBERS),
        "note": write_json(staging, "n.json", {"a": 1}),
    }
    return workspace.publish(staging, Manifest(dataset="things", tables=tables, seed=1, key=KEY))


def objects(address: str) -> list[str]:
    fs, path = fsspec.core.url_to_fs(address)
    fs.invalidate_cache()
    return sorted(name.removeprefix(f"{path}/") for name in fs.find(path))


def test_a_dataset_is_published_found_read_replaced_and_removed(s3) -> None:
    workspace = Workspace.open(s3)
    assert workspace.current("things") is None
    old = publish(workspace)
    found = Workspace.open(s3).current("things")
    assert found.read_table("numbers").to_pydict() == {"n": [1, 2]}
    assert found.read_json("note") == {"a": 1}
    found.verify()
    new = publish(workspace, (3,))
    old.verify()
    assert workspace.current("things").path == workspace.find("things", KEY).path == new.path
    workspace.stage("things", KEY)
    folder = new.path.rsplit("/", 1)[1]
    files = (f"{folder}/{name}" for name in ("manifest.json", "n.json", "numbers/part-00000.parquet"))
    assert objects(s3) == [".thaw", *(f"things/{file}" for file in files), "things/CURRENT"]


def test_damage_is_named_and_what_is_missing_is_not_published(s3) -> None:
    workspace = Workspace.open(s3)
    dataset = publish(workspace)
    fs, path = fsspec.core.url_to_fs(dataset.table_paths("numbers")[0])
    whole = fs.cat_file(path)
    for content, message in ((b"X" + whole[1:], "altered"), (whole[:-1], "bytes")):
        fs.pipe_file(path, content)
        with pytest.raises(CorruptDatasetError, match=rf"^s3://.*part-00000\.parquet.*{message}"):
            dataset.verify()
    fs.rm_file(path)
    with pytest.raises(CorruptDatasetError, match="is missing"):
        dataset.check_sizes()
    with pytest.raises(CorruptDatasetError, match="is missing"):
        workspace.publish(dataset.path, dataset.manifest)
    with pytest.raises(CorruptDatasetError, match="never published"):
        open_dataset(f"{s3}/things/elsewhere")


def test_a_large_file_that_fails_half_way_never_appears(s3) -> None:
    schema = pa.schema([("n", pa.int64())])

    def rows(fail: bool):
        for start in range(0, 2_000_000, 500_000):
            yield pa.record_batch([np.random.default_rng(start).integers(0, 2**60, 500_000)], schema=schema)
        if fail:
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        write_parquet(f"{s3}/part.parquet", rows(True), schema)
    assert objects(s3) == []
    assert write_parquet(f"{s3}/part.parquet", rows(False), schema) == 2_000_000
    assert objects(s3) == ["part.parquet"]


def test_a_bucket_that_is_not_there_is_one_message_and_is_not_made(s3_server) -> None:
    with pytest.raises(WorkspaceError, match=r"--out must be a folder that can be written, s3://elsewhere/out cannot"):
        Workspace.open("s3://elsewhere/out")
    assert not fsspec.filesystem("s3").exists("elsewhere")


def test_what_is_not_thaws_is_refused_and_left_alone(s3) -> None:
    fs, path = fsspec.core.url_to_fs(s3)
    fs.pipe_file(f"{path}/thesis.txt", b"mine")
    with pytest.raises(WorkspaceError, match="holds something else"):
        Workspace.open(s3)
    assert objects(s3) == ["thesis.txt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "Could not connect to the endpoint URL"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_EC2_METADATA_DISABLED": "true"}, "Unable to locate credentials"),
    ],
)
def test_a_store_that_cannot_be_reached_is_one_message_and_exit_code_2(
    changes, message, s3, monkeypatch, capsys
) -> None:
    store = fsspec.get_filesystem_class("s3")
    for name, value in changes.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    store.clear_instance_cache()
    try:
        assert cli.main(["generate_demo", "--out", s3]) == 2
    finally:
        store.clear_instance_cache()
    said = capsys.readouterr().err
    assert said.startswith(f"thaw: --out must be an address that can be reached, {s3} cannot be ({message}")
    assert len(said.splitlines()) == 1


def test_a_chain_on_s3_says_before_it_begins_that_mlflow_needs_a_place(s3, capsys) -> None:
    assert cli.main(["run", "--out", s3]) == 2
    assert f"tracking.uri must be set when --out is on object storage ({s3})" in capsys.readouterr().err
    assert objects(s3) == [".thaw"]


def test_what_other_processes_remove_or_publish_is_seen_at_once(s3) -> None:
    elsewhere = fsspec.filesystem("s3", skip_instance_cache=True)
    workspace = Workspace.open(s3)
    dataset = publish(workspace)
    dataset.check_sizes()
    _, path = fsspec.core.url_to_fs(dataset.table_paths("note")[0])
    content = elsewhere.cat_file(path)
    elsewhere.rm_file(path)
    with pytest.raises(CorruptDatasetError, match="is missing"):
        dataset.check_sizes()
    assert workspace.find("things", KEY) is None
    elsewhere.pipe_file(path, content)
    assert workspace.find("things", KEY).path == dataset.path
    elsewhere.copy(dataset.path, f"{dataset.path}0", recursive=True)
    elsewhere.rm(dataset.path, recursive=True)
    assert workspace.find("things", KEY).path == f"{dataset.path}0"
    assert workspace.current("things") is None
