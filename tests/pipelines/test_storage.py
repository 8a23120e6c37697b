"""The workspace: nothing is there before its manifest is, and damage is named."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from pipelines.errors import CorruptDatasetError, WorkspaceError
from pipelines.storage import Workspace, fingerprint, open_dataset, write_arrow, write_json, write_parquet
from schemas.columns import Column, Table
from schemas.manifest import Manifest

NUMBERS = Table("numbers", (Column("n", "int64"), Column("s", "string", True)), key=("n",))
KEY = "0123456789abcdef" * 4


def publish(workspace, key=KEY):
    staging = workspace.stage("things", key)
    rows = pa.table({"n": [1, 2], "s": ["a", None]})
    tables = {
        "numbers": write_arrow(staging, "numbers", rows, NUMBERS),
        "note": write_json(staging, "n.json", {"a": 1}),
    }
    return workspace.publish(staging, Manifest(dataset="things", tables=tables, seed=1, key=key))


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(str(tmp_path / "out"))


def test_what_was_published_is_read_back(workspace) -> None:
    publish(workspace)
    found = workspace.current("things")
    assert found.read_table("numbers").to_pydict() == {"n": [1, 2], "s": ["a", None]}
    assert found.read_json("note") == {"a": 1}
    found.verify()


def test_a_dataset_without_manifest_does_not_exist(workspace) -> None:
    staging = workspace.stage("things", KEY)
    write_json(staging, "n.json", {})
    assert workspace.find("things", KEY) is None
    assert workspace.current("things") is None
    with pytest.raises(CorruptDatasetError, match="never published"):
        open_dataset(staging)


def test_staging_again_removes_what_an_interrupted_run_left(workspace) -> None:
    staging = Path(workspace.stage("things", KEY))
    (staging / "leftover").write_text("x")
    assert list(Path(workspace.stage("things", KEY)).iterdir()) == []


def test_a_replaced_version_can_be_read_until_the_next_is_staged(workspace) -> None:
    old = publish(workspace)
    new = publish(workspace)
    assert workspace.current("things").path == workspace.find("things", KEY).path == new.path
    old.verify()
    workspace.stage("things", KEY)
    assert not Path(old.path).exists()
    new.verify()


def test_staging_leaves_what_is_current_and_other_versions_alone(workspace) -> None:
    other = publish(workspace, "f" * 64)
    mine = publish(workspace)
    workspace.point(other)
    publish(workspace)
    workspace.stage("things", KEY)
    other.verify()
    assert workspace.find("things", "f" * 64).path == other.path
    assert not Path(mine.path).exists()


def test_a_version_is_unpublished_before_its_files_go(workspace, monkeypatch) -> None:
    dataset, published = publish(workspace), []
    remove = LocalFileSystem.rm

    def looking(fs, path, **options):
        published.append(workspace.is_published(dataset.path))
        remove(fs, path, **options)

    monkeypatch.setattr(LocalFileSystem, "rm", looking)
    workspace.discard(dataset.path)
    assert published == [False]
    assert not Path(dataset.path).exists()


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_file_that_is_missing_or_short_is_not_published(workspace, damage) -> None:
    staging = workspace.stage("things", KEY)
    tables = {"note": write_json(staging, "n.json", {"a": 1})}
    damage(Path(staging) / "n.json")
    with pytest.raises(CorruptDatasetError, match=r"n\.json .*rebuild things"):
        workspace.publish(staging, Manifest(dataset="things", tables=tables, seed=1, key=KEY))
    assert workspace.current("things") is None
    assert workspace.find("things", KEY) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes"),
        (lambda path: path.write_bytes(b"X" + path.read_bytes()[1:]), "altered"),
    ],
)
def test_a_damaged_file_is_named(workspace, damage, message) -> None:
    dataset = publish(workspace)
    damage(Path(dataset.table_paths("numbers")[0]))
    with pytest.raises(CorruptDatasetError, match=rf"part-00000\.parquet.*{message}"):
        dataset.verify()


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(WorkspaceError, match="holds something else"):
        Workspace.open(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_output_that_is_a_file_is_refused(tmp_path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(WorkspaceError, match="must be a folder"):
        Workspace.open(str(tmp_path / "f"))


def test_an_unknown_table_names_those_there_are(workspace) -> None:
    with pytest.raises(CorruptDatasetError, match=r"'letters'.*numbers"):
        publish(workspace).read_table("letters")


def test_fingerprints_follow_content_and_name_not_place(tmp_path) -> None:
    for folder, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "f").write_text(content)
    a, b, c = (fingerprint(str(tmp_path / f), [str(tmp_path / f / "f")]) for f in "abc")
    assert a == b != c


SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string()), ("tags", pa.list_(pa.string()))])


def many_rows(n: int) -> pa.Table:
    """Rows with missing values and lists of several lengths."""
    numbers = [None if i % 11 == 0 else i % 97 for i in range(n)]
    return pa.table([numbers, [f"t{i % 1000}" for i in range(n)], [["a"] * (i % 3) for i in range(n)]], schema=SCHEMA)


def test_a_parquet_file_s_bytes_do_not_depend_on_how_its_rows_are_batched(tmp_path) -> None:
    rows, written = many_rows(150_000), set()
    for batch_rows in (150_000, 65_536, 10_000, 977):
        path = tmp_path / f"{batch_rows}.parquet"
        assert write_parquet(str(path), rows.to_batches(max_chunksize=batch_rows), SCHEMA) == rows.num_rows
        written.add(path.read_bytes())
    assert len(written) == 1
    assert pq.read_table(path).equals(rows)
    assert pq.ParquetFile(path).num_row_groups == 3


def test_a_failed_write_leaves_no_file_behind(tmp_path) -> None:
    def failing():
        yield many_rows(10).to_batches()[0]
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        write_parquet(str(tmp_path / "part.parquet"), failing(), SCHEMA)
    assert list(tmp_path.iterdir()) == []
