"""Train a classifier on image records, keep the best epoch, and register it as challenger.

Outside the chain of `thaw run`: `thaw train_classifier --config conf/fashion_mnist.yaml --out OUT` after
`thaw write_image_records`.
"""

import argparse
import sys
from typing import Any

from jobs import processes
from jobs.launch import Context, Draft, Job, main
from jobs.processes import together
from jobs.trials import backend
from pipelines.config import Config
from pipelines.errors import ConfigError
from pipelines.models.costs import costs
from pipelines.models.saved_classifier import SavedClassifier, weights_digest
from pipelines.storage import Dataset, Workspace, write_json
from pipelines.tracking.classifiers import log_classifier
from pipelines.training.checkpoints import checkpoints_of
from pipelines.training.classes import check_classes, state_of
from pipelines.training.distribution import Devices
from pipelines.training.history import History
from pipelines.training.images import open_images, read_images
from pipelines.training.neighbours import train_nearest
from pipelines.training.network import train_network


def run(context: Context) -> Draft:
    """Train, save."""
    devices = together(JOB, context, {"classifier.batch_size": context.config.classifier.batch_size})
    return _published(context, *train(context, devices))


def train(context: Context, devices: Devices) -> tuple[Any, History]:
    """What every process of a training does: the model, and how it came about."""
    config, records = context.config, context.parents["image_records"]
    options, classes = config.classifier, tuple(records.manifest.facts["classes"])
    # A chain is not stopped by one picture: its encoder can do without a class.
    of_chain = "learns_until" in records.manifest.as_of
    for note in check_classes(records.manifest.facts["splits"], may_lack=of_chain):
        context.say(f"note: {note}")
    validation = open_images(records, "validation")
    if options.family == "nearest":
        if devices.parts > 1:
            raise ConfigError(
                f"nearest neighbours must be kept by one process on one device, got {devices.parts} parts: nothing is "
                "trained that could be shared; leave out --processes and --devices"
            )
        return train_nearest(options.neighbours, read_images(records, "train"), validation, classes)
    images = open_images(records, "train")
    checkpoints = checkpoints_of(
        context.workspace, JOB.dataset, context.key, config.checkpoints, context.say, writes=devices.index == 0
    )
    trained = train_network(
        options, images, validation, classes, seed=config.seed, checkpoints=checkpoints, devices=devices
    )
    return trained.model, trained.history


def _published(context: Context, model: Any, history: History) -> Draft:
    """What is published of it."""
    config, records = context.config, context.parents["image_records"]
    options = config.classifier
    saved = SavedClassifier(state_of(records, options.family), model)
    tables = saved.save(context.staging)
    told = history.to_json()
    tables["history"] = write_json(context.staging, "history.json", told)
    facts = {
        "best_epoch": history.best_epoch,
        "epochs": len(history.epochs),
        "best": history.best.metrics,
        "weights": weights_digest(model),
        **costs(model),
    }
    speeds = [round(epoch.examples_per_s) for epoch in history.epochs]
    return Draft(tables, facts, notes={"images_per_s": speeds})


def register(context: Context, classifier: Dataset) -> dict[str, str]:
    """Log the training, and register the classifier as challenger."""
    saved = SavedClassifier.load(classifier.path)
    return log_classifier(
        context.config,
        context.workspace,
        classifier,
        context.parents["image_records"],
        state=saved.state,
        length=saved.length,
    )


def instead(arguments: argparse.Namespace, config: Config, workspace: Workspace) -> bool:
    """A process but the first of several trains its part, and publishes nothing."""
    return processes.instead(JOB, arguments, config, workspace, train)


JOB = Job(
    name="train_classifier",
    dataset="classifier",
    parents=("image_records",),
    sections=("name", "classifier", "tracking"),
    run=run,
    register=register,
    depends=backend,
    arguments=processes.add_arguments,
    instead=instead,
    around=processes.around,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
