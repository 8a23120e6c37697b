"""Train a classifier that tells a category of items from the rest of their content.

It says how much content knows of that category, and of items that lack it what it may be; it is registered as
challenger. Outside the chain of `thaw run`: `thaw train_content_classifier --label COLUMN` after `thaw check_quality`.
"""

import argparse
import sys
from collections import Counter

import numpy as np

from jobs.launch import Context, Draft, Job, add_shorthand, main
from jobs.trials import backend
from pipelines.config import AugmentOptions
from pipelines.content.encoder import Encoder
from pipelines.content.items import counts_by_split, fit_items, labelled_items
from pipelines.errors import ConfigError
from pipelines.models.costs import costs
from pipelines.models.saved_classifier import model_file, weights_digest
from pipelines.quality.sources import published_sources
from pipelines.storage import Dataset, write_file, write_json
from pipelines.tracking.classifiers import log_content_classifier
from pipelines.training.checkpoints import checkpoints_of
from pipelines.training.items import encoded
from pipelines.training.neighbours import train_nearest
from pipelines.training.network import train_network
from schemas.fitted import EncoderState


def run(context: Context) -> Draft:
    """Fit the encoder, train, save."""
    config, options, staging = context.config, context.config.classifier, context.staging
    if options.label is None:
        raise ConfigError("classifier.label must name a category of items to tell, got none; set it, or --label COLUMN")
    if options.augment != AugmentOptions():
        raise ConfigError(
            "classifier.augment must be left out for items' content, it changes images; remove it, or set each of its "
            "options to its default"
        )
    items = context.parents["clean"].read_table("items")
    unread = own_vectors(context)
    if unread:
        context.say(
            f"note: {', '.join(unread)} is left out: the encoder that made it was trained on labels of the items' "
            "images, and would hand them on"
        )
    kinds = config.content_kinds("item")
    table = labelled_items(items, options.label, kinds, config.split, config.seed, unread)
    for reason, count in table.left_out.items():
        context.say(f"note: {count:,} items are left out, {reason}")
    splits = counts_by_split(table.rows, table.classes)
    is_training = np.array([split == "train" for split in table.rows["split"].to_pylist()], bool)
    state = fit_items(table.rows.filter(is_training), table.features, config.content)
    train, validation = (encoded(table, split, state) for split in ("train", "validation"))
    if options.family == "nearest":
        model, history = train_nearest(options.neighbours, train.as_vectors(), validation.as_vectors(), table.classes)
    else:
        checkpoints = checkpoints_of(context.workspace, JOB.dataset, context.key, config.checkpoints, context.say)
        trained = train_network(options, train, validation, table.classes, seed=config.seed, checkpoints=checkpoints)
        model, history = trained.model, trained.history
    name, content = model_file(model)
    about = {"family": options.family, "label": options.label, "classes": list(table.classes)}
    tables = {
        "classifier": write_file(staging, name, content),
        "state": write_json(staging, "classifier.json", about),
        "encoder": write_json(staging, "encoder.json", state.model_dump(mode="json")),
        "history": write_json(staging, "history.json", history.to_json()),
    }
    facts = {
        **about,
        "splits": splits,
        "best_epoch": history.best_epoch,
        "best": history.best.metrics,
        "weights": weights_digest(model),
        **costs(model),
    }
    if validation.rows:
        commonest = Counter(train.labels.tolist()).most_common(1)[0][0]
        facts["most_frequent"] = float((validation.labels == commonest).mean())
        context.say(
            f"{options.label}: validation accuracy {history.best.metrics['validation_accuracy']:.4f}, "
            f"{facts['most_frequent']:.4f} for always the most frequent class"
        )
    return Draft(tables, facts)


def register(context: Context, classifier: Dataset) -> dict[str, str]:
    """Log the training, and register encoder and classifier as challenger."""
    columns = Encoder(EncoderState.model_validate(classifier.read_json("encoder"))).raw_columns("item")
    return log_content_classifier(context.config, context.workspace, classifier, context.parents["clean"], columns)


def own_vectors(context: Context) -> list[str]:
    """Columns of items that are vectors which the workspace's own classifier made."""
    vectors = context.parents.get("content_vectors")
    if vectors is None or "encoder" not in vectors.manifest.tables:
        return []
    sources = context.config.source.items
    return [name for source in sources if source.dataset == "content_vectors" for name in source.columns]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to tell."""
    add_shorthand(parser, "--label", "classifier.label", "COLUMN", "the category of items to tell")


JOB = Job(
    name="train_content_classifier",
    dataset="content_classifier",
    parents=("clean",),
    sections=("name", "source", "content", "split", "classifier", "tracking"),
    run=run,
    register=register,
    needs=published_sources,
    depends=backend,
    arguments=arguments,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
