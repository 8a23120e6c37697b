"""The job: a classifier that can be loaded anywhere, registered, resumed, and clear words where it cannot be had."""

import ast
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from jobs import train_classifier
from jobs.launch import execute
from jobs.train_classifier import JOB
from pipelines.config import parse_config
from pipelines.errors import ConfigError, InputError
from pipelines.models.saved_classifier import SavedClassifier
from pipelines.storage import Workspace
from pipelines.tracking import served_classifier
from pipelines.training.classes import check_classes
from tests.pipelines.training.image_records import publish_images, spots

SPLITS = {"train": spots(40), "validation": spots(10, 1), "test": spots(10, 2)}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = Workspace.open(str(tmp_path_factory.mktemp("out")))
    publish_images(workspace, SPLITS)
    yield workspace
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def config(**classifier):
    images = {"sources": [{"path": "x"}], "height": 4, "width": 4, "channels": 1}
    return parse_config({"name": "spots", "seed": 1, "images": images, "classifier": classifier})


def trained(workspace, **classifier):
    return execute(JOB, config(**classifier), workspace, None)


def served(workspace, found):
    uri = f"sqlite:///{workspace.root}/mlflow.db"
    version = MlflowClient(uri, uri).get_model_version_by_alias("spots_classifier", "challenger")
    assert str(version.version) == found.manifest.notes["version"]
    return mlflow.pyfunc.load_model(f"models:/spots_classifier/{version.version}")


def test_a_network_is_saved_registered_and_serves_what_it_says_itself(workspace) -> None:
    options = {"family": "two_layer", "hidden": 8, "epochs": 8, "batch_size": 8, "schedule": {"learning_rate": 0.01}}
    outcome = trained(workspace, **options)
    found = outcome.dataset
    assert not outcome.reused and trained(workspace, **options).reused
    again = execute(JOB, config(**options), workspace, None, force=True).dataset
    assert again.manifest.content_digest == found.manifest.content_digest
    facts = found.manifest.facts
    assert facts["parameters"] == 16 * 8 + 8 + 8 * 2 + 2 and facts["multiply_adds"] == 16 * 8 + 8 * 2
    assert facts["best"]["validation_accuracy"] == 1.0
    assert found.read_json("history")["epochs"][facts["best_epoch"] - 1].items() >= facts["best"].items()

    saved = SavedClassifier.load(found.path)
    assert saved.state.classes == ("dark", "light") and saved.state.resize == "pad"
    _, pixels, labels = SPLITS["test"]
    probabilities, features = saved.both(pixels)
    assert np.array_equal(probabilities.argmax(axis=1), labels) and features.shape == (10, 8)
    assert np.array_equal(saved.both(pixels[3:4])[0], probabilities[3:4])
    assert saved.both(pixels[:0])[1].shape == (0, 8)
    answered = served(workspace, again).predict(pixels)
    np.testing.assert_allclose(answered["probabilities"], probabilities, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(answered["embedding"], features, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match=r"uint8 of the shape that the classifier takes, \(4, 4, 1\), got float32"):
        saved.both(pixels.astype(np.float32))


def test_nearest_neighbours_are_saved_registered_and_serve_shares_of_votes(workspace) -> None:
    found = trained(workspace, family="nearest", neighbours={"k": 3}).dataset
    assert found.manifest.facts["best"] == {"validation_accuracy": 1.0}
    saved = SavedClassifier.load(found.path)
    _, pixels, labels = SPLITS["test"]
    assert np.array_equal(saved.probabilities(pixels).argmax(axis=1), labels)
    np.testing.assert_allclose(
        served(workspace, found).predict(pixels)["probabilities"], saved.probabilities(pixels), rtol=1e-6
    )
    with pytest.raises(ConfigError, match="content vectors must come from a network"):
        saved.features(pixels)
    with pytest.raises(ConfigError, match=r"neighbours\.k must be at most the 40 training rows, got 41"):
        trained(workspace, family="nearest", neighbours={"k": 41})


def test_what_is_served_needs_nothing_of_thaw() -> None:
    tree = ast.parse(Path(served_classifier.__file__).read_text(encoding="utf-8"))
    froms = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    plain = {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert froms | plain == {"faiss", "json", "keras", "mlflow", "numpy", "pathlib", "typing"}


def test_a_class_without_training_images_is_refused_and_one_with_a_single_one_noted() -> None:
    splits = {
        "train": {"classes": {"a": 5, "b": 1, "c": 0}},
        "validation": {"classes": {"a": 1, "b": 0, "c": 0}},
        "test": {"classes": {"a": 1, "b": 0, "c": 2}},
    }
    with pytest.raises(InputError, match=r"each class must have training images, 'c' has none \(2 in test\); put some"):
        check_classes(splits)
    lost = "1 of 3 classes are without a training image that can be read, and nothing is learned of them: c"
    assert check_classes(splits, may_lack=True)[1:] == [lost]
    del splits["train"]["classes"]["c"]
    assert check_classes(splits) == ["one training image is all there is of b"]


def test_a_chain_goes_on_without_a_class_whose_training_images_cannot_be_read(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(train_classifier, "log_classifier", lambda *args, **told: {"run_id": "r"})
    workspace = Workspace.open(str(tmp_path / "out"))
    records = publish_images(workspace, SPLITS, classes=("dark", "light", "lost"))
    with pytest.raises(InputError, match="'lost' has none"):
        trained(workspace, family="linear", epochs=1)
    of_chain = records.manifest.model_copy(update={"as_of": {"learns_until": 1}})
    workspace.publish(records.path, of_chain)
    assert trained(workspace, family="linear", epochs=1).dataset.manifest.facts["best_epoch"] == 1
    assert "note: 1 of 3 classes are without a training image" in capsys.readouterr().err


def test_an_empty_training_split_and_a_single_class_are_told(tmp_path) -> None:
    for name, splits, classes, says in (
        ("empty", {"train": spots(0), "validation": spots(4), "test": spots(4)}, ("a", "b"), "must have training rows"),
        ("one", {s: (spots(4)[0], spots(4)[1], np.zeros(4, int)) for s in SPLITS}, ("a",), "at least two classes"),
    ):
        workspace = Workspace.open(str(tmp_path / name))
        publish_images(workspace, splits, classes=classes)
        with pytest.raises(InputError, match=says):
            trained(workspace)
        assert workspace.current("classifier") is None
