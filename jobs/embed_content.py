"""Images through a Keras model to content vectors of items, in versions, for `build_examples` to join.

The model is `images.embed.model` (`thaw embed_content … --model ENCODER.keras`), or else the workspace's own
classifier up to its features, which `thaw run` trains before. Images that cannot be read go to a counted quarantine.
"""

import argparse
import posixpath
import sys

import fsspec
import pyarrow as pa

from jobs.launch import Context, Draft, Job, add_runner, add_shorthand, main
from jobs.write_image_records import image_options
from pipelines import storage
from pipelines.config import Config, ImageOptions
from pipelines.errors import ConfigError, WorkspaceError
from pipelines.images.embed import EncoderHandler, load_encoder, vector_length
from pipelines.images.infer import infer
from pipelines.images.listing import image_files, list_images
from pipelines.images.own_encoder import learns_until, trains_encoder
from pipelines.images.plan import accounted, check_share, plan_vectors
from pipelines.images.read import quarantine_table
from pipelines.images.records import work_folder
from pipelines.images.standard import SAMPLE, standardised
from pipelines.models.saved_classifier import keras_file
from pipelines.records.shard_file import remove_strays
from pipelines.storage import Dataset
from pipelines.training.images import open_images
from schemas.classifier import ClassifierState
from schemas.columns import TIME_MIN_US
from schemas.interactions import QUARANTINE
from schemas.manifest import digest

ENCODER = "encoder.keras"
"""The file of the workspace's own encoder, beside the vectors that it made."""


def fingerprint(config: Config, data: str) -> str:
    """Digest of the images' files and of the model. The workspace's own classifier is a parent, by its own digest."""
    fs, root = fsspec.core.url_to_fs(data)
    options = image_options(config)
    images = storage.fingerprint(fs.unstrip_protocol(root), image_files(data, options))
    return digest([images, model_digest(options)])


def model_digest(options: ImageOptions) -> str:
    """SHA-256 of the model file; empty where there is none, which `run` will tell."""
    path = options.embed.model
    if path is None:
        return ""
    fs, file = fsspec.core.url_to_fs(path)
    return storage.sha256_of(fs, file) if fs.isfile(file) else ""


def needs(config: Config) -> tuple[str, ...]:
    """The workspace's own classifier, and what it learned from, where no other model is named."""
    return () if config.images is None or config.images.embed.model is not None else ("classifier", "image_records")


def own_encoder(options: ImageOptions, classifier: Dataset, records: Dataset) -> bytes:
    """The classifier's network up to its features, standardised: a .keras file. Raises ConfigError if it has none."""
    state = ClassifierState.model_validate(classifier.read_json("state"))
    if state.family == "nearest":
        raise ConfigError(
            "content vectors must come from a network, got a classifier of the family nearest; set classifier.family "
            "and train again, or name another encoder (images.embed.model)"
        )
    if state.resize != options.resize:
        raise ConfigError(
            f"images must be fitted as they were for the classifier, by {state.resize}, got images.resize "
            f"{options.resize}; set it so, or train again"
        )
    (path,) = classifier.table_paths("classifier")
    layer = options.embed.layer or "features"
    network = load_encoder(options.embed.model_copy(update={"model": path, "layer": layer}))
    vector_length(network, options)  # refuses a layer that gives none
    # Records are shuffled globally: the first are a sample of all.
    some = next(open_images(records, "train").pieces()).images[:SAMPLE]
    return keras_file(standardised(network, some))


def check_period(records: Dataset, until: int | None) -> None:
    """Raises WorkspaceError where the classifier may have learned from images of after the training period."""
    if records.manifest.as_of.get("learns_until") != until:
        raise WorkspaceError(
            "the classifier's images must be of this configuration's training period, `image_records` were written for "
            "another (split.validation_start); run `thaw write_image_records` and `thaw train_classifier` again, or "
            "`thaw run`, which runs all that is out of date"
        )


def run(context: Context) -> Draft:
    """List, plan, infer in parallel, count, let the gate decide."""
    config, data, staging = context.config, context.data or "", context.staging
    options = image_options(config)
    own = options.embed.model is None
    if trains_encoder(config):
        check_period(context.parents["image_records"], learns_until(config))
    encoder = {}
    if own:
        content = own_encoder(options, context.parents["classifier"], context.parents["image_records"])
        encoder = {"encoder": storage.write_file(staging, ENCODER, content)}
        named = options.embed.model_copy(
            update={"model": posixpath.join(staging, ENCODER), "layer": None, "value_range": (0.0, 255.0)}
        )
        options = options.model_copy(update={"embed": named})
    length = vector_length(load_encoder(options.embed), options)
    work = work_folder(staging)
    fs, _ = fsspec.core.url_to_fs(work)
    fs.makedirs(work, exist_ok=True)
    listing = list_images(data, options, work, context.say, labelled=False)
    plan = plan_vectors(listing, options)
    check_share(listing.num_rows, plan.bad, options.max_quarantine_share)
    handler = EncoderHandler(options.embed, options.block_rows)
    vectors, unreadable = infer(
        plan.rows, staging, "vectors", handler, options, config.beam, config.storage.parquet_files
    )
    fs.rm(work, recursive=True)

    bad = [*plan.bad, *unreadable]
    check_share(listing.num_rows, bad, options.max_quarantine_share)
    out = vectors.rows
    rows = {
        "in": listing.num_rows,
        "out": out,
        "quarantined": len(bad),
        "duplicates": plan.duplicates,
        "superseded": plan.superseded,
    }
    context.say(accounted(rows))
    undated = _undated(plan.rows, unreadable)
    if undated:
        context.say(
            f"note: {undated:,} vectors apply always, because nothing says from when; set images.embed.valid_from to "
            "the end of the encoder's training where it saw the log, or valid_from of a table to the images' own times"
        )
    if out > undated and options.embed.valid_from is None and not own:
        context.say(
            f"note: {out - undated:,} vectors apply from their images' own times; if the encoder saw the log, set "
            "images.embed.valid_from to the end of its training"
        )
    remove_strays(staging, [shard.path for shard in vectors.shards])
    tables = {
        "vectors": vectors,
        **encoder,
        "quarantine": storage.write_arrow(staging, "quarantine", quarantine_table(bad), QUARANTINE),
    }
    facts = {
        "rows": rows,
        "vector_length": length,
        "apply_always": undated,
        "encoder": {
            "sha256": model_digest(options),
            "layer": options.embed.layer,
            "valid_from": options.embed.valid_from,
        },
    }
    # Told of the own encoder alone: what another learned from, nobody here knows.
    until = learns_until(config)
    return Draft(tables, facts, {} if until is None else {"learns_until": until}, {"raw_files": context.raw})


def _undated(rows: pa.Table, unreadable: list[dict[str, str]]) -> int:
    """Images that could be read whose vectors apply always."""
    gone = {(row["source"], row["file"]) for row in unreadable}
    columns = (rows[name].to_pylist() for name in ("source", "name", "valid_from"))
    return sum(time == TIME_MIN_US and (source, name) not in gone for source, name, time in zip(*columns, strict=True))


def arguments(parser: argparse.ArgumentParser) -> None:
    """`--runner` and `--model`."""
    add_runner(parser)
    add_shorthand(parser, "--model", "images.embed.model", "FILE", "the encoder, a .keras file")


JOB = Job(
    name="embed_content",
    dataset="content_vectors",
    parents=(),
    sections=("images", "storage"),
    run=run,
    needs=needs,
    reads_data=True,
    fingerprint=fingerprint,
    depends=lambda config: str(learns_until(config)),
    arguments=arguments,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
