"""The job: every image gets a class or goes to the quarantine, by the workspace's classifier or a registered one."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from jobs import cli
from jobs.classify import JOB
from jobs.launch import execute
from pipelines.errors import CorruptDatasetError, QualityGateError, SourceError, TrackingError, WorkspaceError
from pipelines.images.classify import ClassifierHandler
from pipelines.images.infer import Pixels
from pipelines.storage import Workspace
from schemas.classes import CLASSES
from tests.jobs.classifiers import RAW, config, knowing, png, publish, records_in, remembering, write_images

THREADS = {"workers": 2, "options": {"direct_running_mode": "multi_threading"}}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """With a classifier that tells bright from dark."""
    folder = tmp_path_factory.mktemp("made")
    workspace = records_in(folder / "out", write_images(folder / "data", 12))
    publish(workspace, knowing())
    return workspace


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten images, two folders deep; odd ones are bright."""
    data = tmp_path / "new"
    for number in range(10):
        path = data / ("", "a", "a/b")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number, number % 2 == 1))
    return data


def run(workspace, folder, **changes):
    limits = {"images": {**RAW["images"], "max_quarantine_share": 0.5, "block_images": 3}}
    return execute(JOB, config(**{**limits, **changes}), workspace, str(folder)).dataset


def test_each_image_of_a_folder_gets_its_class_however_deep_it_lies(workspace, folder) -> None:
    (folder / ".DS_Store").write_text("hidden")
    found = run(workspace, folder)
    rows = found.read_table("classes").to_pylist()
    assert [row["name"] for row in rows] == sorted(row["name"] for row in rows)
    assert {row["name"]: row["class"] for row in rows} == {
        str(path.relative_to(folder)): ("dark", "light")[int(path.stem) % 2] for path in folder.rglob("*.png")
    }
    for row in rows:
        assert row["top_classes"][0] == row["class"]
        assert row["top_probabilities"][0] == row["probability"] > 0.5
        assert sum(row["top_probabilities"]) == pytest.approx(1)
    assert found.manifest.facts["rows"] == {"in": 10, "out": 10, "quarantined": 0, "duplicates": 0}
    assert found.manifest.facts["classes"] == {"dark": 5, "light": 5}
    found.verify()


def test_images_of_any_kind_are_fitted_as_the_classifier_takes_them_and_bad_ones_are_counted(workspace, folder) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    for name, picture in {
        "colour.png": Image.new("RGB", (50, 40), "white"),
        "clear.png": Image.new("RGBA", (9, 9), (0, 0, 0, 0)),
        "deep.png": Image.fromarray(np.full((8, 8), 65535, np.uint16)),
        "dot.png": Image.new("L", (1, 1), 255),
    }.items():
        picture.save(folder / name)
    (folder / "cut.png").write_bytes(png(1, True)[:60])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.txt").write_text("no image")
    found = run(workspace, folder)
    assert {row["name"]: row["class"] for row in found.read_table("classes").to_pylist()} == dict.fromkeys(
        ("clear.png", "colour.png", "deep.png", "dot.png"), "light"
    )
    reasons = {row["file"]: row["reason"] for row in found.read_table("quarantine").to_pylist()}
    assert reasons.pop("cut.png").startswith("image: damaged")
    assert reasons == {"empty.jpg": "image: empty file", "text.txt": "image: neither JPEG nor PNG"}
    with pytest.raises(QualityGateError, match=r"3 of 7"):
        run(workspace, folder, images={**RAW["images"], "max_quarantine_share": 0.1})


def test_a_table_names_the_items_and_an_image_may_show_two(workspace, folder) -> None:
    (folder / "list.csv").write_text("file,sku\n0.png,x\n3.png,y\n3.png,z\n3.png,z\n")
    source = {"path": "list.csv", "format": "table", "image": "file", "item_id": "sku"}
    found = run(workspace, folder, classify={"sources": [source], "top": 1})
    rows = [(row["name"], row["item_id"], row["class"]) for row in found.read_table("classes").to_pylist()]
    assert rows == [("0.png", "x", "dark"), ("3.png", "y", "light"), ("3.png", "z", "light")]
    assert len(found.read_table("classes", list(CLASSES.key)).group_by(list(CLASSES.key)).aggregate([])) == 3
    assert found.manifest.facts["rows"] == {"in": 4, "out": 3, "quarantined": 0, "duplicates": 1}
    assert found.read_table("classes")["top_classes"].to_pylist()[0] == ["dark"]


def test_rows_do_not_depend_on_workers_blocks_or_files(workspace, folder) -> None:
    one = run(workspace, folder, classify={"top": 2})
    other = run(
        workspace,
        folder,
        beam=THREADS,
        classify={"top": 2},
        images={**RAW["images"], "block_images": 4},
        storage={"parquet_files": 2},
    )
    assert len(other.manifest.tables["classes"].shards) == 2
    assert one.read_table("classes").equals(other.read_table("classes"))


def test_it_resumes_until_the_classifier_changes_and_nearest_neighbours_score_too(workspace, folder, tmp_path) -> None:
    shutil.copytree(workspace.root, tmp_path / "out")
    copy = Workspace.open(str(tmp_path / "out"))
    again = [execute(JOB, config(), copy, str(folder)).reused for _ in range(2)]
    publish(copy, remembering(copy), "near")
    last = execute(JOB, config(), copy, str(folder))
    assert [*again, last.reused] == [False, True, False]
    assert last.dataset.manifest.facts["family"] == "nearest"
    assert len(last.dataset.read_table("classes")) == 10


def test_of_equal_probabilities_the_first_class_comes_first() -> None:
    class Torn:
        state = knowing().state

        def probabilities(self, images):
            return np.full((len(images), 2), 0.5, np.float32)

    rows = pa.table({"name": ["n"], "item_id": [None]})
    block = Pixels(0, rows, np.zeros((1, 4, 5, 1), np.uint8))
    assert ClassifierHandler("", 2).columns(block, Torn())[4] == [["dark", "light"]]


def test_a_registered_classifier_is_pinned_to_its_version(workspace, folder, tmp_path, monkeypatch) -> None:
    knowing(-1).save(str(tmp_path))
    asked = []

    class Store:
        @staticmethod
        def lookup(config, root, address):
            asked.append(address)
            return Store

        uri = "models:/x_classifier/3"

        @staticmethod
        def files(artifact):
            return str(tmp_path)

    monkeypatch.setitem(sys.modules, "pipelines.tracking.registered", Store)
    found = run(workspace, folder, classify={"model": "models:/x_classifier@champion"})
    assert found.manifest.facts["model"] == "models:/x_classifier/3"
    assert asked == ["models:/x_classifier@champion", "models:/x_classifier/3"]
    # This one is wrong about everything.
    assert {row["class"] for row in found.read_table("classes").to_pylist() if row["name"] == "0.png"} == {"light"}
    assert not list(Path(found.path).rglob("*.keras"))
    (tmp_path / "classifier.json").unlink()
    with pytest.raises(TrackingError, match="must be a registered classifier, models:/x_classifier/3 is none"):
        run(workspace, folder, classify={"model": "models:/x_classifier@champion", "top": 1})


def test_mistakes_are_one_message_and_nothing_is_published(workspace, folder, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"classify\.sources\[0\] must hold images, \. holds none"):
        run(workspace, tmp_path / "empty")
    bare = Workspace.open(str(tmp_path / "bare"))
    with pytest.raises(WorkspaceError, match="run `thaw train_classifier` first"):
        run(bare, folder)
    assert bare.current("classes") is None
    shutil.copytree(workspace.root, tmp_path / "out")
    copy = Workspace.open(str(tmp_path / "out"))
    weights = Path(copy.current("classifier").path) / "classifier.keras"
    weights.write_bytes(b"\0" * weights.stat().st_size)
    with pytest.raises(CorruptDatasetError, match=r"classifier\.keras cannot be loaded"):
        run(copy, folder)
    path = tmp_path / "c.yaml"
    path.write_text("name: x\nseed: 7\nimages: {height: 4, width: 5, sources: [{path: p}]}\nbeam: {workers: 1}\n")
    command = ["classify", "--config", str(path), "--out", workspace.root]
    assert cli.main([*command, "--data", str(tmp_path / "nowhere")]) == 2
    assert cli.main(command) == 2
    assert cli.main([*command, "--data", str(folder), "--model", "x@champion"]) == 2
    assert cli.main([*command, "--data", str(folder)]) == 0
    assert "Traceback" not in capsys.readouterr().err
