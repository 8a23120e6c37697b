"""Train a classifier on image records, keep the best epoch, and register it as challenger.

Outside the chain of `thaw run`: `thaw train_classifier --config conf/fashion_mnist.yaml --out OUT` after
`thaw write_image_records`.
"""

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from jobs.launch import Context, Draft, Job, main
from pipelines.errors import InputError
from pipelines.models.costs import cost
from pipelines.models.nearest import NearestNeighbours
from pipelines.models.saved_classifier import SavedClassifier
from pipelines.storage import Dataset, write_json
from pipelines.tracking.classifiers import log_classifier
from pipelines.training.images import image_shape, open_images, read_images
from pipelines.training.neighbours import train_nearest
from pipelines.training.network import train_network
from schemas.classifier import ClassifierState


def run(context: Context) -> Draft:
    """Train, save, log."""
    config, records = context.config, context.parents["image_records"]
    options, classes = config.classifier, tuple(records.manifest.facts["classes"])
    for note in check_classes(records.manifest.facts["splits"]):
        context.say(f"note: {note}")
    validation = open_images(records, "validation")
    if options.family == "nearest":
        model, history = train_nearest(options.neighbours, read_images(records, "train"), validation, classes)
    else:
        trained = train_network(options, open_images(records, "train"), validation, classes, seed=config.seed)
        model, history = trained.model, trained.history
    saved = SavedClassifier(state_of(records, options.family), model)
    tables = saved.save(context.staging)
    told = history.to_json()
    tables["history"] = write_json(context.staging, "history.json", told)
    logged = log_classifier(
        config,
        context.workspace.root,
        folder=context.staging,
        state=saved.state,
        length=saved.length,
        records=records.manifest,
        records_path=records.path,
        history=told,
        costs=costs(model),
    )
    facts = {
        "best_epoch": history.best_epoch,
        "epochs": len(history.epochs),
        "best": history.best.metrics,
        "weights": weights_digest(model),
        **costs(model),
    }
    speeds = [round(epoch.images_per_s) for epoch in history.epochs]
    return Draft(tables, facts, notes={**logged, "images_per_s": speeds})


def check_classes(splits: Mapping[str, Any]) -> list[str]:
    """Notes on classes with little to learn from. Raises InputError where a class has no training image."""
    train = splits["train"]["classes"]
    for name, count in train.items():
        elsewhere = {split: splits[split]["classes"][name] for split in ("validation", "test")}
        if not count and any(train.values()):
            found = " and ".join(f"{there:,} in {split}" for split, there in elsewhere.items() if there)
            raise InputError(
                f"each class must have training images, {name!r} has none ({found or 'none anywhere'}); put some into "
                "its training folder, or leave the class out of images.classes"
            )
    single = [name for name, count in train.items() if count == 1]
    return [f"one training image is all there is of {', '.join(single)}"] if single else []


def state_of(records: Dataset, family: str) -> ClassifierState:
    """What a classifier of these records takes."""
    height, width, channels = image_shape(records)
    return ClassifierState(
        family=family,
        classes=tuple(records.manifest.facts["classes"]),
        height=height,
        width=width,
        channels=channels,
        resize=records.manifest.config["images"]["resize"],
    )


def costs(model: Any) -> dict[str, int]:
    """Parameters and multiply-adds of one image; of nearest neighbours the numbers that they remember, and look at."""
    if isinstance(model, NearestNeighbours):
        return {"parameters": int(model.vectors.size), "multiply_adds": int(model.vectors.size)}
    of_model = cost(model)
    return {"parameters": of_model.parameters, "multiply_adds": of_model.multiply_adds}


def weights_digest(model: Any) -> str:
    """SHA-256 of what was learned."""
    near = isinstance(model, NearestNeighbours)
    hasher = hashlib.sha256()
    for values in (model.vectors, model.labels) if near else model.weights:
        hasher.update(np.ascontiguousarray(values).tobytes())
    return hasher.hexdigest()


JOB = Job(
    name="train_classifier",
    dataset="classifier",
    parents=("image_records",),
    sections=("name", "classifier", "tracking"),
    run=run,
    # The backend decides on the weights too.
    depends=lambda config: str(keras.backend.backend()),
)

if __name__ == "__main__":
    sys.exit(main(JOB))
