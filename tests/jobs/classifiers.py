"""A workspace of bright and dark images, and classifiers of them that know what they know without training."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from jobs.launch import execute
from jobs.write_image_records import JOB as WRITE
from pipelines.config import ClassifierOptions, parse_config
from pipelines.models.classifier import build_classifier
from pipelines.models.nearest import NearestNeighbours
from pipelines.models.saved_classifier import SavedClassifier
from pipelines.storage import Workspace, write_json
from pipelines.training.images import read_images
from schemas.classifier import ClassifierState
from schemas.manifest import Manifest

SHAPE = (4, 5, 1)
RAW = {
    "name": "x",
    "seed": 7,
    "records": {"num_shards": 1},
    "beam": {"workers": 1},
    "images": {
        "sources": [{"path": "p", "folders": {"train": "train", "test": "test"}}],
        "height": 4,
        "width": 5,
        "channels": 1,
        "validation_share": 0.3,
        "max_quarantine_share": 0.5,
    },
}
HISTORY = {
    "best_epoch": 2,
    "epochs": [
        {"epoch": n, "loss": 1 / n, "accuracy": 0.5, "validation_loss": 1 / n, "validation_accuracy": 0.5}
        for n in (1, 2)
    ],
}


def config(**changes):
    return parse_config({**RAW, **changes})


def png(number: int, bright: bool) -> bytes:
    values = np.random.default_rng(number).integers(0, 100, SHAPE[:2], np.uint8) + np.uint8(150 * bright)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


def write_images(data: Path, images: int = 60) -> Path:
    """Half of them bright, a third of them in test; one lies in the wrong folder of each split."""
    for number in range(images):
        label = number % 2 if number > 1 else 1 - number % 2
        folder = data / "p" / ("train", "train", "test")[number % 3] / ("dark", "light")[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.png").write_bytes(png(number, number % 2 == 1))
    return data


def records_in(root: Path, data: Path) -> Workspace:
    workspace = Workspace.open(str(root))
    execute(WRITE, config(), workspace, str(data))
    return workspace


def knowing(sign: float = 1.0, shape=SHAPE, classes=("dark", "light")) -> SavedClassifier:
    """Tells bright from dark; of sign -1 the wrong way round, of 0 it says always the first."""
    model = build_classifier(ClassifierOptions(family="linear"), shape, len(classes), seed=1)
    kernel = np.zeros((np.prod(shape), len(classes)), np.float32)
    kernel[:, :2] = np.array([-sign, sign])
    model.get_layer("scores").set_weights([kernel, np.zeros(len(classes), np.float32)])
    return SavedClassifier(_state("linear", shape, classes), model)


def remembering(workspace: Workspace) -> SavedClassifier:
    """The nearest neighbour among the training images."""
    rows = read_images(workspace.current("image_records"), "train")
    return SavedClassifier(
        _state("nearest", SHAPE, ("dark", "light")),
        NearestNeighbours(rows.images, rows.labels, 2, k=1, distance="l1"),
    )


def publish(workspace: Workspace, saved: SavedClassifier, key: str = "one", notes=None) -> None:
    """As `train_classifier` does."""
    records = workspace.current("image_records").manifest
    staging = workspace.stage("classifier", key * 16)
    tables = saved.save(staging) | {"history": write_json(staging, "history.json", HISTORY)}
    manifest = Manifest(
        dataset="classifier",
        tables=tables,
        facts={"best_epoch": 2, "weights": key, "parameters": 42, "multiply_adds": 40},
        seed=7,
        key=key * 16,
        parents={"image_records": records.content_digest},
        notes=notes or {},
    )
    workspace.publish(staging, manifest)


def _state(family, shape, classes) -> ClassifierState:
    height, width, channels = shape
    return ClassifierState(family=family, classes=classes, height=height, width=width, channels=channels)
