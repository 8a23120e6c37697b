"""The job: every image is counted, the bytes depend on nothing but images, options and seed, and it resumes."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import cli, write_image_records
from jobs.launch import execute
from jobs.write_image_records import JOB
from pipelines.config import parse_config
from pipelines.errors import ConfigError, QualityGateError
from pipelines.records.reader import read_split
from pipelines.storage import Workspace

THREADS = {"workers": 2, "options": {"direct_running_mode": "multi_threading"}}
IMAGES = {
    "sources": [{"path": "pictures", "folders": {"train": "train", "test": "test"}}],
    "height": 6,
    "width": 8,
    "max_quarantine_share": 0.5,
}


def png(number: int) -> bytes:
    values = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """60 images of 2 classes in 2 splits, and three that cannot be read."""
    data = tmp_path_factory.mktemp("data")
    for number in range(60):
        folder = data / "pictures" / ("train", "train", "test")[number % 3] / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04d}.png").write_bytes(png(number))
    (folder / "cut.png").write_bytes(png(99)[:60])
    (folder / "text.jpg").write_text("not found")
    (folder / "bild ü.png").write_bytes(b"")
    return data


def config(beam=None, images=None, **changes):
    raw = {"name": "x", "seed": 7, "images": {**IMAGES, **(images or {})}, "records": {"num_shards": 2}, **changes}
    return parse_config({**raw, "beam": beam or {"workers": 1}})


def published(tmp_path: Path, data: Path, chosen, name: str = "out"):
    return execute(JOB, chosen, Workspace.open(str(tmp_path / name)), str(data)).dataset


@pytest.fixture(scope="module")
def records(tmp_path_factory, data):
    return published(tmp_path_factory.mktemp("records"), data, config())


def test_every_image_comes_out_or_is_quarantined_with_its_reason(records) -> None:
    assert records.manifest.facts["rows"] == {"in": 63, "out": 60, "quarantined": 3, "duplicates": 0}
    reasons = {Path(row["file"]).name: row["reason"] for row in records.read_table("quarantine").to_pylist()}
    assert reasons.pop("cut.png").startswith("image: damaged (")
    assert reasons == {"text.jpg": "image: neither JPEG nor PNG", "bild ü.png": "image: empty file"}
    assert records.manifest.facts["classes"] == ["cat", "dog"]
    records.verify()


def test_a_record_holds_the_pixels_and_the_class_of_the_image_that_the_table_names(records) -> None:
    names = {row["example_id"]: row for row in records.read_table("images").to_pylist()}
    seen = 0
    for split in ("train", "validation", "test"):
        found = read_split(records, split)
        pixels = np.ascontiguousarray(found["image"]).view(np.uint8).reshape(-1, 6, 8, 3)
        for example, label, image in zip(found["example_id"], found["label"], pixels, strict=True):
            row = names[example.decode()]
            number = int(Path(row["name"]).stem)
            expected = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
            assert np.array_equal(image, expected)
            assert (label, row["label"], row["split"]) == (number % 2, ("cat", "dog")[number % 2], split)
            seen += 1
    assert seen == len(names) == 60


def test_tensorflow_reads_the_records(records) -> None:
    import tensorflow as tf

    from schemas.to_tf import feature_spec

    raw = tf.data.TFRecordDataset(records.table_paths("train"))
    batch = next(iter(raw.batch(100)))
    parsed = tf.io.parse_example(batch, feature_spec(records.manifest.tables["train"].columns))
    images = tf.reshape(tf.io.decode_raw(parsed["image"], tf.uint8), (-1, 6, 8, 3))
    expected = np.ascontiguousarray(read_split(records, "train")["image"]).view(np.uint8).reshape(-1, 6, 8, 3)
    assert np.array_equal(images.numpy(), expected)


@pytest.mark.parametrize(("beam", "block"), [(None, 1), (None, 7), (THREADS, 5), ({"workers": 2}, 64)])
def test_the_bytes_are_the_same_at_any_parallelism_and_block_size(tmp_path, data, records, beam, block) -> None:
    again = published(tmp_path, data, config(beam, {"block_images": block}))
    assert again.manifest.content_digest == records.manifest.content_digest


def test_how_images_are_fitted_is_part_of_what_records_are_though_all_have_the_size(tmp_path, data, records) -> None:
    padded = published(tmp_path, data, config(images={"resize": "pad"})).manifest
    assert padded.tables["train"] == records.manifest.tables["train"]
    assert padded.content_digest != records.manifest.content_digest


def test_a_packed_folder_gives_the_same_records(tmp_path, data, records) -> None:
    shutil.make_archive(str(tmp_path / "data" / "pictures"), "gztar", data / "pictures")
    source = {"path": "pictures.tar.gz", "folders": {"train": "train", "test": "test"}}
    packed = published(tmp_path, tmp_path / "data", config(images={"sources": [source]}))
    assert packed.manifest.content_digest == records.manifest.content_digest
    assert not list(Path(packed.path).glob("_*"))


def test_it_resumes_until_an_image_changes(tmp_path, data) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    workspace = Workspace.open(str(tmp_path / "out"))
    assert not execute(JOB, config(), workspace, str(copy)).reused
    assert execute(JOB, config(), workspace, str(copy)).reused
    (copy / "pictures" / "train" / "cat" / "0000.png").write_bytes(png(1000))
    assert not execute(JOB, config(), workspace, str(copy)).reused


def test_too_many_unreadable_images_are_refused_and_nothing_is_published(tmp_path, data) -> None:
    with pytest.raises(QualityGateError, match=r"got 4.8% \(3 of 63\): .*images.max_quarantine_share"):
        published(tmp_path, data, config(images={"max_quarantine_share": 0.04}))
    assert Workspace.open(str(tmp_path / "out")).current("image_records") is None


def test_a_configuration_without_images_and_a_chain_without_a_log_are_told(tmp_path, data, capsys) -> None:
    with pytest.raises(ConfigError, match="no section `images`"):
        published(tmp_path, data, config().model_copy(update={"images": None}))
    from pipelines.quality.clean import check_sources

    with pytest.raises(ConfigError, match=r"source\.interactions must name at least one log"):
        check_sources(None, config())


def test_images_without_a_time_teach_a_chains_encoder_only_where_the_configuration_says_so(tmp_path, data) -> None:
    column = {"image": {"kind": "vector", "column": "vector"}}
    of_a_log = {
        "source": {"items": [{"dataset": "content_vectors", "columns": column}]},
        "labels": {"rule": "sampled", "positive_actions": ["click"]},
        "split": {"validation_start": "2025-02-16", "test_start": "2025-02-22"},
    }
    with pytest.raises(ConfigError, match=r"must say their times, 63 say none; set valid_from .* images.learn_undated"):
        published(tmp_path, data, config(**of_a_log))
    allowed = published(tmp_path, data, config(images={"learn_undated": True}, **of_a_log)).manifest
    assert (allowed.facts["undated"], allowed.as_of) == (63, {"learns_until": 1_739_664_000_000_000})


def test_a_users_mistakes_are_exit_code_2_and_a_gate_3(tmp_path, data, capsys) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: x\nseed: 7\nbeam: {workers: 1}\nimages:\n  height: 6\n  width: 8\n"
        "  sources: [{path: pictures, folders: {train: train, test: test}}]\n"
    )
    arguments = ["write_image_records", "--config", str(path), "--data", str(data), "--out", str(tmp_path / "out")]
    assert cli.main([*arguments, "--set", "images.height=0"]) == 2
    assert cli.main([*arguments, "--set", "images.sources=[{path: ../x}]"]) == 2
    assert cli.main([*arguments, "--runner", "NoSuchRunner"]) == 2
    assert cli.main([*arguments, "--set", "images.max_quarantine_share=0"]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_a_name_that_is_not_utf_8_stops_no_run_and_no_resuming(tmp_path) -> None:
    folder = tmp_path / "data" / "pictures" / "cat"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(png(1))
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(png(2))
    chosen = config(images={"sources": [{"path": "pictures"}]})
    workspace = Workspace.open(str(tmp_path / "out"))
    first, second = (execute(JOB, chosen, workspace, str(tmp_path / "data")) for _ in range(2))
    (row,) = first.dataset.read_table("quarantine").to_pylist()
    assert (row["file"], row["reason"]) == ("pictures/cat/caf\\udce9.png", "name: not UTF-8")
    assert second.reused


def test_what_a_killed_worker_left_is_not_published(tmp_path, data, monkeypatch) -> None:
    found = write_image_records.take

    def take(path: str):
        (Path(path).parents[1] / "train" / "part-00000.tfrecord.0f.tmp").write_bytes(b"half")
        return found(path)

    monkeypatch.setattr(write_image_records, "take", take)
    assert not list(Path(published(tmp_path, data, config()).path).rglob("*.tmp"))
