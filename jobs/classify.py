"""Score images by a classifier: each image's class, its probability and the likeliest others, as Parquet.

Beside the chain of `thaw run`: `thaw classify --config FILE --data FOLDER --out OUT [--model models:/NAME@champion]`.
Images are fitted as the classifier takes them; those that cannot be read go to a counted quarantine.
"""

import argparse
import importlib
import posixpath
import sys
from collections import Counter
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.launch import Context, Draft, Job, add_runner, add_shorthand, main
from pipelines import storage
from pipelines.config import Config, ImageOptions, ImageSource
from pipelines.errors import TrackingError
from pipelines.images.classify import ClassifierHandler, load_classifier
from pipelines.images.infer import infer
from pipelines.images.listing import image_files, list_images
from pipelines.images.plan import accounted, check_share, distinct
from pipelines.images.read import quarantine_table
from pipelines.images.records import work_folder
from pipelines.records.shard_file import remove_strays
from schemas.classifier import CLASSIFIER_FILES, ClassifierState
from schemas.interactions import QUARANTINE
from schemas.manifest import TableEntry

_KEY = "classify.sources"


def run(context: Context) -> Draft:
    """List, infer in parallel, count, let the gate decide."""
    config, data, staging = context.config, context.data or "", context.staging
    work = work_folder(staging)
    fs, _ = fsspec.core.url_to_fs(work)
    fs.makedirs(work, exist_ok=True)
    folder = _model_folder(context, work)
    state = load_classifier(folder).state
    options = image_options(config, state)
    listing = list_images(data, options, work, context.say, labelled=False, key=_KEY)
    rows, bad, duplicates = distinct(listing, ("name", "item_id"), ("file",))
    check_share(listing.num_rows, bad, options.max_quarantine_share)
    rows = rows.sort_by([("name", "ascending"), ("item_id", "ascending")])
    handler = ClassifierHandler(folder, min(config.classify.top, len(state.classes)))
    classes, unreadable = infer(rows, staging, "classes", handler, options, config.beam, config.storage.parquet_files)
    fs.rm(work, recursive=True)

    bad += unreadable
    check_share(listing.num_rows, bad, options.max_quarantine_share)
    counts = {"in": listing.num_rows, "out": classes.rows, "quarantined": len(bad), "duplicates": duplicates}
    context.say(accounted(counts))
    remove_strays(staging, [shard.path for shard in classes.shards])
    found = _class_counts(staging, classes)
    context.say("classes  " + ", ".join(f"{name} {n:,}" for name, n in found.most_common(5)))
    tables = {
        "classes": classes,
        "quarantine": storage.write_arrow(staging, "quarantine", quarantine_table(bad), QUARANTINE),
    }
    facts = {
        "rows": counts,
        "classes": {name: found[name] for name in state.classes},
        "model": config.classify.model or "",
        "family": state.family,
    }
    return Draft(tables, facts)


def image_options(config: Config, state: ClassifierState | None = None) -> ImageOptions:
    """Which images, fitted as the classifier takes them, and what of `images` holds for any."""
    limits = {"max_quarantine_share", "max_pixels", "block_images"}
    of_config = config.images.model_dump(include=limits) if config.images else {}
    taken = state.model_dump(include={"height", "width", "channels", "resize"}) if state else {"height": 1, "width": 1}
    sources = config.classify.sources or (ImageSource(path=".", format="files"),)
    return ImageOptions.model_validate({**of_config, **taken, "sources": sources})


def fingerprint(config: Config, data: str) -> str:
    """Digest of the images' files: names and contents."""
    fs, root = fsspec.core.url_to_fs(data)
    return storage.fingerprint(fs.unstrip_protocol(root), image_files(data, image_options(config), _KEY))


def _model_folder(context: Context, work: str) -> str:
    """Where every worker finds the classifier's files. Raises TrackingError where the model is no classifier."""
    address = context.config.classify.model
    if address is None:
        return context.parents["classifier"].path
    tracking = importlib.import_module("pipelines.tracking.registered")
    local = tracking.lookup(context.config, context.workspace.root, address).files("classifier")
    here, _ = fsspec.core.url_to_fs(local)
    fs, folder = fsspec.core.url_to_fs(posixpath.join(work, "model"))
    fs.makedirs(folder, exist_ok=True)
    files = [name for name in CLASSIFIER_FILES.values() if here.exists(f"{local}/{name}")]
    if CLASSIFIER_FILES["state"] not in files:
        raise TrackingError(f"what classifies must be a registered classifier, {address} is none; name another")
    for name in files:
        fs.pipe_file(f"{folder}/{name}", here.cat_file(f"{local}/{name}"))
    return posixpath.join(work, "model")


def _class_counts(staging: str, classes: TableEntry) -> Counter[str]:
    """Class -> images."""
    fs, root = fsspec.core.url_to_fs(staging)
    found: Counter[str] = Counter()
    for shard in classes.shards:
        with fs.open(posixpath.join(root, shard.path), "rb") as file:
            for pair in pa.compute.value_counts(pq.read_table(file, columns=["class"])["class"]).to_pylist():
                found[pair["values"]] += pair["counts"]
    return found


def _needed(config: Config) -> tuple[str, ...]:
    """The workspace's own classifier, where no registered one is named."""
    return () if config.classify.model else ("classifier",)


def _pinned(config: Config, workspace: storage.Workspace) -> Config:
    """`config` with the version, for an alias."""
    if config.classify.model is None:
        return config
    # Imported here, and above: a registered model alone needs MLflow.
    tracking: Any = importlib.import_module("pipelines.tracking.registered")
    version = tracking.lookup(config, workspace.root, config.classify.model).uri
    return config.model_copy(update={"classify": config.classify.model_copy(update={"model": version})})


def arguments(parser: argparse.ArgumentParser) -> None:
    """`--runner` and `--model`."""
    add_runner(parser)
    meaning = "a registered one, such as models:/x_classifier@champion or models:/x_classifier/3; absent: that of --out"
    add_shorthand(parser, "--model", "classify.model", "MODEL", meaning)


JOB = Job(
    name="classify",
    dataset="classes",
    parents=(),
    sections=("classify", "images", "storage"),
    run=run,
    needs=_needed,
    pinned=_pinned,
    depends=lambda config: (config.tracking.uri or "") if config.classify.model else "",
    reads_data=True,
    fingerprint=fingerprint,
    arguments=arguments,
    one_lineage=False,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
