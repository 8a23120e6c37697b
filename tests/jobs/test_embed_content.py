"""The job: a vector an image, what the model makes of its pixels, valid from when the configuration says."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import cli, embed_content
from jobs.embed_content import JOB
from jobs.launch import execute
from pipelines.config import ClassifierOptions, parse_config
from pipelines.errors import ConfigError, QualityGateError, WorkspaceError
from pipelines.images.standard import standardised
from pipelines.models.classifier import build_classifier
from pipelines.models.nearest import NearestNeighbours
from pipelines.models.saved_classifier import SavedClassifier, keras_file
from pipelines.storage import Workspace
from pipelines.training.images import LabelledImages
from schemas.classifier import ClassifierState
from schemas.columns import TIME_MIN_US
from schemas.manifest import Manifest

US_2024 = 1_704_067_200_000_000
DAYS_10 = 10 * 86_400_000_000


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """A seeded model of 4×5 grey images to three numbers, with a layer `inner` of two."""
    import keras

    keras.utils.set_random_seed(1)
    inputs = keras.Input((4, 5, 1))
    inner = keras.layers.Dense(2, name="inner")(keras.layers.Flatten()(inputs))
    path = tmp_path_factory.mktemp("model") / "encoder.keras"
    keras.Model(inputs, keras.layers.Dense(3)(inner)).save(path)
    return str(path)


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4, 5), np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """20 images, one that cannot be read, and a table that says item and time."""
    data = tmp_path_factory.mktemp("data")
    (data / "p").mkdir()
    lines = ["file,sku,shot"]
    for number in range(20):
        out = io.BytesIO()
        Image.fromarray(pixels(number)).save(out, "PNG")
        (data / "p" / f"i{number}.png").write_bytes(out.getvalue())
        lines.append(f"p/i{number}.png,sku{number // 2},{US_2024 // 1_000_000 + 86_400 * number}")
    (data / "p" / "broken.png").write_bytes(b"no")
    (data / "list.csv").write_text(
        "\n".join([*lines, "p/gone.png,sku99,1704067200", "p/broken.png,sku98,1704067200", lines[1]]) + "\n"
    )
    return data


TABLE = {
    "path": "list.csv", "format": "table", "image": "file", "item_id": "sku",
    "valid_from": {"column": "shot", "unit": "s"},
}  # fmt: skip


def config(encoder, source=None, beam=None, **embed):
    images = {
        "sources": [source or TABLE],
        "height": 4,
        "width": 5,
        "channels": 1,
        "block_images": 6,
        "max_quarantine_share": 0.1,
        "embed": {"model": encoder, **embed},
    }
    return parse_config({"name": "x", "seed": 7, "images": images, "beam": beam or {"workers": 1}})


def run(tmp_path, data, chosen):
    return execute(JOB, chosen, Workspace.open(str(tmp_path / "out")), str(data)).dataset


def test_a_vector_is_the_models_output_from_the_images_own_time_on(tmp_path, data, encoder, capsys) -> None:
    import keras

    vectors = run(tmp_path, data, config(encoder))
    rows = vectors.read_table("vectors").to_pylist()
    assert vectors.manifest.facts["rows"] == {
        "in": 23, "out": 20, "quarantined": 2, "duplicates": 1, "superseded": 0,
    }  # fmt: skip
    assert vectors.read_table("quarantine")["reason"].to_pylist() == [
        "image: neither JPEG nor PNG",
        "image: no such file",
    ]
    assert [(row["item_id"], row["valid_from"]) for row in rows] == sorted(
        (f"sku{n // 2}", US_2024 + 86_400_000_000 * n) for n in range(20)
    )
    model = keras.saving.load_model(encoder)
    for row in rows:
        number = (row["valid_from"] - US_2024) // 86_400_000_000
        expected = model(pixels(number)[None, :, :, None].astype(np.float32)).numpy()[0]
        np.testing.assert_allclose(row["vector"], expected, rtol=1e-4, atol=1e-3)
    vectors.verify()
    assert "20 vectors apply from their images' own times; if the encoder saw the log" in capsys.readouterr().err
    assert vectors.manifest.facts["apply_always"] == 0


def _own(tmp_path, data, encoder):
    """Vectors by their images' own times, in that order."""
    return run(tmp_path / "own", data, config(encoder)).read_table("vectors").to_pylist()


def test_the_encoders_training_delays_what_is_older(tmp_path, data, encoder, capsys) -> None:
    vectors = run(tmp_path, data, config(encoder, valid_from="2024-01-10"))
    assert "note:" not in capsys.readouterr().err
    assert vectors.manifest.facts["encoder"]["valid_from"] == "2024-01-10"
    rows = vectors.read_table("vectors").to_pylist()
    days = {(row["item_id"], (row["valid_from"] - US_2024) // 86_400_000_000): row["vector"] for row in rows}
    # Of the two images of sku0 to sku4, of days 0 to 9, only the newer one can ever apply.
    assert set(days) == {(f"sku{n // 2}", n) for n in range(10, 20)} | {(f"sku{n}", 9) for n in range(5)}
    assert vectors.manifest.facts["rows"]["superseded"] == 5
    own = {
        row["item_id"]: row["vector"] for row in _own(tmp_path, data, encoder) if row["valid_from"] < US_2024 + DAYS_10
    }
    np.testing.assert_allclose(days["sku0", 9], own["sku0"], rtol=1e-5)


def test_a_vector_without_a_time_applies_always_and_a_note_says_so(tmp_path, data, encoder, capsys) -> None:
    source = {"path": "p", "format": "folders"}
    (data / "q" / "class").mkdir(parents=True, exist_ok=True)
    (data / "q" / "class" / "größe.png").write_bytes((data / "p" / "i1.png").read_bytes())
    (data / "q" / "class" / "broken.png").write_bytes(b"no")
    chosen = config(encoder, {**source, "path": "q"})
    chosen = chosen.model_copy(update={"images": chosen.images.model_copy(update={"max_quarantine_share": 0.5})})
    vectors = run(tmp_path, data, chosen)
    (data / "q" / "class" / "broken.png").unlink()
    (row,) = vectors.read_table("vectors").to_pylist()
    assert (row["item_id"], row["valid_from"]) == ("größe", TIME_MIN_US)
    assert "1 vectors apply always" in capsys.readouterr().err
    assert vectors.manifest.facts["apply_always"] == 1
    named = run(tmp_path, data, config(encoder, {**source, "path": "q"}, item_id="path"))
    assert named.read_table("vectors")["item_id"].to_pylist() == ["q/class/größe"]


def test_another_layer_gives_its_own_output_and_several_workers_the_same_rows(tmp_path, data, encoder) -> None:
    one = run(tmp_path, data, config(encoder, layer="inner", value_range=[0, 1]))
    assert one.manifest.facts["vector_length"] == 2
    threads = {"workers": 2, "options": {"direct_running_mode": "multi_threading"}}
    two = run(tmp_path / "two", data, config(encoder, beam=threads, layer="inner", value_range=[0, 1]))
    assert one.read_table("vectors").drop(["vector"]).equals(two.read_table("vectors").drop(["vector"]))
    both = [np.array(d.read_table("vectors")["vector"].to_pylist()) for d in (one, two)]
    np.testing.assert_allclose(*both, rtol=1e-5)


def test_an_encoder_that_cannot_be_is_told_before_any_image_is_read(tmp_path, data, encoder) -> None:
    import keras

    (tmp_path / "text.keras").write_text("no model")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w"):
        pass
    (tmp_path / "cut.keras").write_bytes(Path(encoder).read_bytes()[:-30])
    unbuilt = tmp_path / "unbuilt.keras"
    keras.Sequential([keras.layers.Dense(2, name="inner")]).save(unbuilt)
    cases = {
        "text.keras cannot be loaded": {"model": str(tmp_path / "text.keras")},
        "empty.keras cannot be loaded": {"model": str(tmp_path / "empty.keras")},
        "cut.keras cannot be loaded": {"model": str(tmp_path / "cut.keras")},
        "unbuilt.keras is none": {"model": str(unbuilt), "layer": "inner"},
        "the model takes, None": {"model": str(unbuilt)},
        "nowhere.keras cannot be loaded": {"model": str(tmp_path / "nowhere.keras")},
        "'pool'; it has": {"layer": "pool"},
    }
    for expected, embed in cases.items():
        with pytest.raises(ConfigError, match=expected):
            run(tmp_path, data, config(encoder, **embed))
    chosen = config(encoder)
    wide = chosen.model_copy(update={"images": chosen.images.model_copy(update={"width": 6})})
    with pytest.raises(ConfigError, match=r"\(4, 5, 1\), got \(4, 6, 1\)"):
        run(tmp_path, data, wide)


def publish_classifier(workspace: Workspace, learns_until: int, **state) -> SavedClassifier:
    """A network of the images here, untrained, and the records that it would have learned from."""
    key = "k" * 64
    as_of = {"learns_until": learns_until}
    records = Manifest(dataset="image_records", tables={}, seed=7, as_of=as_of, key=key)
    workspace.publish(workspace.stage("image_records", key), records)
    usual = {"family": "two_layer", "classes": ("a", "b"), "height": 4, "width": 5, "channels": 1}
    whole = ClassifierState(**usual | state)
    near = NearestNeighbours(np.zeros((2, 20), np.float32), np.array([0, 1]), 2, k=1, distance="l2")
    network = build_classifier(ClassifierOptions(family="two_layer", hidden=3), (4, 5, 1), 2, seed=1)
    saved = SavedClassifier(whole, near if whole.family == "nearest" else network)
    staging = workspace.stage("classifier", key)
    parents = {"image_records": records.content_digest}
    tables = saved.save(staging)
    workspace.publish(staging, Manifest(dataset="classifier", tables=tables, seed=7, parents=parents, key=key))
    return saved


def of_a_log(split=None, **embed):
    """The images' configuration, their vectors read by the items of a log."""
    raw = config(None, **embed).model_dump(mode="json", exclude_unset=True)
    column = {"image": {"kind": "vector", "column": "vector"}}
    raw["source"] = {"items": [{"dataset": "content_vectors", "columns": column}]}
    raw["labels"] = {"rule": "sampled", "positive_actions": ["click"]}
    raw["split"] = split or {"validation_start": "2024-01-10", "test_start": "2024-01-15"}
    return parse_config(raw)


def test_without_a_model_the_workspaces_classifier_makes_the_vectors(tmp_path, data, capsys, monkeypatch) -> None:
    import keras

    workspace = Workspace.open(str(tmp_path / "out"))
    learned = np.stack([pixels(number)[..., None] for number in range(10)])
    of_records = LabelledImages(("",) * 10, learned, np.zeros(10, np.int64))
    monkeypatch.setattr(embed_content, "open_images", lambda records, split: of_records)
    saved = publish_classifier(workspace, US_2024 + 9 * 86_400_000_000)
    # The range is that of another encoder: the own one takes 0 to 255.
    vectors = execute(JOB, of_a_log(value_range=[0, 1]), workspace, str(data)).dataset
    rows = vectors.read_table("vectors").to_pylist()
    numbers = [(row["valid_from"] - US_2024) // 86_400_000_000 for row in rows]
    # Measured by what it learned from: there, each number has mean 0 and deviation 1.
    base, shown = saved.features(learned), np.stack([pixels(number)[..., None] for number in numbers])
    deviation = np.where(base.std(axis=0) == 0, 1, base.std(axis=0))
    expected = (saved.features(shown) - base.mean(axis=0)) / deviation
    np.testing.assert_allclose([row["vector"] for row in rows], expected, rtol=1e-3, atol=1e-4)
    (encoder,) = vectors.table_paths("encoder")
    np.testing.assert_allclose(
        keras.saving.load_model(encoder).predict(shown, verbose=0), expected, rtol=1e-3, atol=1e-4
    )
    # It never saw the log: nothing more is to be asked of whoever runs it.
    assert "if the encoder saw the log" not in capsys.readouterr().err
    assert set(vectors.manifest.parents) == {"classifier", "image_records"}
    # The end of the training period is part of what they are: with another, they are not found again.
    assert vectors.manifest.as_of == {"learns_until": US_2024 + 9 * 86_400_000_000}
    earlier = of_a_log({"validation_start": "2024-01-08", "test_start": "2024-01-15"}, value_range=[0, 1])
    with pytest.raises(WorkspaceError, match="must be of this configuration's training period"):
        execute(JOB, earlier, workspace, str(data))


def test_a_number_that_is_the_same_for_all_images_learned_from_is_left_as_it_is() -> None:
    import keras

    inputs = keras.Input((2, 2, 1))
    encoder = keras.Model(inputs, keras.layers.Flatten()(inputs))
    images = np.zeros((3, 2, 2, 1), np.uint8)
    images[:, 0, 0, 0] = [1, 2, 3]
    made, again = (standardised(keras.Model(encoder.input, encoder.output), images) for _ in range(2))
    assert keras_file(made) == keras_file(again)
    found = made(np.full((1, 2, 2, 1), 5.0)).numpy()[0]
    np.testing.assert_allclose(found, [3 / (2 / 3) ** 0.5, 5, 5, 5], rtol=1e-5)


def test_a_classifier_that_may_know_later_images_is_refused(tmp_path, data) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    publish_classifier(workspace, US_2024 + 12 * 86_400_000_000)
    with pytest.raises(WorkspaceError, match="must be of this configuration's training period"):
        execute(JOB, of_a_log(), workspace, str(data))


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"family": "nearest"}, "got a classifier of the family nearest; set classifier.family"),
        ({"resize": "pad"}, "by pad, got images.resize stretch; set it so, or train again"),
    ],
)
def test_a_classifier_that_makes_no_such_vectors_is_told(tmp_path, data, state, told) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    publish_classifier(workspace, 0, **state)
    with pytest.raises(ConfigError, match=told):
        execute(JOB, config(None), workspace, str(data))


def test_without_a_model_and_a_classifier_the_next_step_is_told(tmp_path, data) -> None:
    with pytest.raises(WorkspaceError, match=r"needs the dataset `classifier`.*run `thaw train_classifier` first"):
        run(tmp_path, data, config(None))


def test_it_resumes_until_the_model_or_an_image_changes(tmp_path, data, encoder) -> None:
    import keras

    path = tmp_path / "encoder.keras"
    path.write_bytes(Path(encoder).read_bytes())
    workspace = Workspace.open(str(tmp_path / "out"))
    again = [execute(JOB, config(str(path)), workspace, str(data)).reused for _ in range(2)]
    model = keras.saving.load_model(path)
    model.set_weights([weights + 1 for weights in model.get_weights()])
    model.save(path)
    assert [*again, execute(JOB, config(str(path)), workspace, str(data)).reused] == [False, True, False]


def test_two_images_of_one_item_and_moment_are_told_by_the_gate(tmp_path, data, encoder) -> None:
    (data / "list2.csv").write_text("file,sku\np/i1.png,a\np/i2.png,a\n")
    source = {"path": "list2.csv", "format": "table", "image": "file", "item_id": "sku"}
    with pytest.raises(QualityGateError, match="another row of the same item_id says otherwise"):
        run(tmp_path, data, config(encoder, source))


def test_the_model_may_be_named_on_the_command_line(tmp_path, data, encoder) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: x\nseed: 7\nbeam: {workers: 1}\nimages:\n  height: 4\n  width: 5\n  channels: 1\n"
        "  max_quarantine_share: 0.1\n  sources:\n"
        "    - {path: list.csv, format: table, image: file, item_id: sku, valid_from: {column: shot, unit: s}}\n"
    )
    arguments = ["embed_content", "--config", str(path), "--data", str(data), "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    assert cli.main([*arguments, "--model", encoder]) == 0
