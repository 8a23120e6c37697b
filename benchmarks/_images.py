"""What the benchmarks of image classifiers share: records made by the product, recipes from conf/, trained by seed."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from jobs.cli import main as thaw
from pipelines.config import ClassifierOptions, load_config
from pipelines.models.costs import cost
from pipelines.models.nearest import NearestNeighbours, vote
from pipelines.storage import Workspace
from pipelines.training.history import Epoch
from pipelines.training.images import LabelledImages, read_images
from pipelines.training.network import scores_of, train_network

CONF = Path(__file__).parents[1] / "conf"
KS = range(1, 16)
SEEDS = range(int(os.environ.get("SEEDS", "5")))


@dataclass(frozen=True)
class Splits:
    """The images of a source."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """One training, measured."""

    validation: float
    test: float
    minutes: float
    """Of processor time, of all threads together: training with its validation after each epoch."""
    parameters: int
    multiply_adds: int
    curve: tuple[tuple[float, float], ...]
    """(minutes, validation accuracy) after each epoch."""


def asked(known: Sequence[str]) -> list[str]:
    """Those that MODELS names, all without it. Ends the benchmark where one is unknown."""
    names = os.environ.get("MODELS", "").split(",") if os.environ.get("MODELS") else list(known)
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"MODELS must be among {','.join(known)}, got {unknown[0]}; correct it")
    return names


@contextmanager
def splits_of(source: str, folder: str) -> Iterator[Splits]:
    """The images of conf/SOURCE.yaml under THAW_TEST_DATA/FOLDER, split as `thaw write_image_records` does."""
    data = Path(os.environ.get("THAW_TEST_DATA", "/nowhere")) / folder
    if not data.is_dir():
        raise SystemExit(f"THAW_TEST_DATA must name a folder that has {folder}, got {data.parent}; set it")
    with tempfile.TemporaryDirectory() as out:
        arguments = ["--config", str(CONF / f"{source}.yaml"), "--data", str(data), "--out", out]
        if thaw(["write_image_records", *arguments]):
            raise SystemExit("the image records could not be written")
        records = Workspace.open(out).current("image_records")
        assert records is not None
        train, validation, test = (read_images(records, split) for split in ("train", "validation", "test"))
        if rows := int(os.environ.get("ROWS", "0")):
            train, validation, test = (some.take(np.arange(min(rows, some.rows))) for some in (train, validation, test))
        yield Splits(train, validation, test, tuple(records.manifest.facts["classes"]))


def recipe(source: str, over: str | None) -> ClassifierOptions:
    """The section `classifier` of conf/SOURCE.yaml, with conf/classifiers/OVER.yaml laid over it."""
    paths = [CONF / f"{source}.yaml", *([CONF / "classifiers" / f"{over}.yaml"] if over else [])]
    sets = [f"classifier.epochs={os.environ['EPOCHS']}"] if "EPOCHS" in os.environ else []
    return load_config(paths, sets).classifier


def train(options: ClassifierOptions, images: Splits, seed: int) -> Trained:
    """Train on train, keep the best epoch on validation, then look at test."""
    keras.backend.clear_session()
    curve: list[tuple[float, float]] = []
    started = time.process_time()

    def note(epoch: Epoch) -> None:
        curve.append(((time.process_time() - started) / 60, epoch.metrics["validation_accuracy"]))

    trained = train_network(options, images.train, images.validation, images.classes, seed=seed, on_epoch=note)
    minutes = (time.process_time() - started) / 60
    right = scores_of(trained.model, images.test.images).argmax(axis=1) == images.test.labels
    of = cost(trained.model)
    best = trained.history.best.metrics["validation_accuracy"]
    print(f"{options.family}, seed {seed}: test {right.mean():.4f} in {minutes:.1f} CPU minutes", file=sys.stderr)
    return Trained(best, float(right.mean()), minutes, of.parameters, of.multiply_adds, tuple(curve))


def nearest(images: Splits, say: Callable[[str], None]) -> Trained:
    """Nearest neighbours with the k and the distance that are best on validation; of equals the first."""
    started, classes, found = time.process_time(), len(images.classes), []
    for distance in ("l2", "l1"):
        model = NearestNeighbours(images.train.images, images.train.labels, classes, k=max(KS), distance=distance)
        labels = model.labels[model.neighbours(images.validation.images, max(KS))]
        right = [float((vote(labels[:, :k], classes) == images.validation.labels).mean()) for k in KS]
        found += [(accuracy, k, distance) for accuracy, k in zip(right, KS, strict=True)]
    best, k, distance = max(found, key=lambda one: one[0])
    say(f"nearest neighbours: k = {k}, {distance}, chosen on validation")
    model = NearestNeighbours(images.train.images, images.train.labels, classes, k=k, distance=distance)
    minutes = (time.process_time() - started) / 60
    test = float((model.predict(images.test.images) == images.test.labels).mean())
    return Trained(best, test, minutes, model.vectors.size, model.vectors.size, ())


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval over seeds by Student's t; NaN of one."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    return float(np.mean(values)), float(
        stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    )


def told(values: Sequence[float]) -> str:
    """Mean and interval, as text."""
    mean, half = over_seeds(values)
    return f"{mean:.4f}" + (f" ± {half:.4f}" if len(values) > 1 else "")


def row(name: str, runs: Sequence[Trained]) -> list[Any]:
    """A line of the table."""
    return [
        name,
        f"{runs[0].parameters:,}",
        f"{runs[0].multiply_adds / 1e6:.2f} M",
        len(runs),
        f"{np.mean([run.validation for run in runs]):.4f}",
        told([run.test for run in runs]),
        f"{np.mean([run.minutes for run in runs]):.2f}",
    ]


HEADER = ["model", "parameters", "multiply-adds", "seeds", "validation", "test, 95 % interval", "CPU minutes"]
