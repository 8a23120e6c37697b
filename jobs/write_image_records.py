"""Images to shuffled TFRecord shards, one table a split; images that cannot be read go to a counted quarantine.

Of the chain where items read vectors of their images; else by itself:
`thaw write_image_records --config conf/cifar10.yaml --data DIR --out OUT`.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import fsspec
import pyarrow as pa

from jobs.launch import Context, Draft, Job, add_runner, main
from pipelines import storage
from pipelines.beam import Keep, open_pipeline, take
from pipelines.config import Config, ImageOptions
from pipelines.errors import ConfigError
from pipelines.images.listing import image_files, list_images
from pipelines.images.own_encoder import learns_until
from pipelines.images.plan import accounted, check_share, plan_records
from pipelines.images.progress import Progress
from pipelines.images.read import quarantine_table
from pipelines.images.records import WriteImageShards, work_folder, write_groups
from pipelines.records.shard_file import Written, remove_strays, shard_name
from pipelines.records.shuffle_check import check_shuffle
from schemas.examples import SPLITS
from schemas.images import IMAGES, image_columns
from schemas.interactions import QUARANTINE
from schemas.manifest import TableEntry


def image_options(config: Config) -> ImageOptions:
    """The section `images`. Raises ConfigError where there is none."""
    if config.images is None:
        raise ConfigError(
            "the configuration must say where images are, it has no section `images`; see conf/cifar10.yaml"
        )
    return config.images


def fingerprint(config: Config, data: str) -> str:
    """Digest of the images' files: names and contents."""
    fs, root = fsspec.core.url_to_fs(data)
    return storage.fingerprint(fs.unstrip_protocol(root), image_files(data, image_options(config)))


def run(context: Context) -> Draft:
    """List, plan, decode and write in parallel, count, let the gate decide."""
    config, data, staging = context.config, context.data or "", context.staging
    options, records = image_options(config), config.records
    work = work_folder(staging)
    fs, _ = fsspec.core.url_to_fs(work)
    fs.makedirs(work, exist_ok=True)
    listing = list_images(data, options, work, context.say)
    until = learns_until(config)
    plan = plan_records(listing, options, config.seed, records.num_shards, until)
    undated = plan.rows["valid_from"].null_count if until is not None else 0
    if undated and not options.learn_undated:
        raise ConfigError(
            f"images that the chain's own encoder learns from must say their times, {undated:,} say none; set "
            "valid_from of their table, or images.learn_undated=true where all are from before split.validation_start"
        )
    if undated:
        context.say(f"note: {undated:,} images say no time, and the encoder may learn from all of them")
    places = [(split, number) for split in SPLITS for number in range(records.num_shards)]
    names = [shard_name(split, number, records.compression) for split, number in places]
    write_groups(f"{work}/listing.parquet", shard_groups(plan.rows, len(places)))
    with Progress("images", plan.rows.num_rows) as progress, open_pipeline(config.beam) as pipeline:
        write = WriteImageShards(f"{work}/listing.parquet", staging, names, options, len(plan.classes), progress.mark)
        # dict: one a shard.
        _ = pipeline | "WriteImageShards" >> write | "Keep" >> Keep(f"{work}/written.json")
    done = take(f"{work}/written.json")
    fs.rm(work, recursive=True)
    remove_strays(staging, names)

    unreadable = [row for result in done for row in result["bad"]]
    bad = [*plan.bad, *unreadable]
    check_share(listing.num_rows, bad, options.max_quarantine_share)
    written = {w.shard.path: w for w in (Written.model_validate(result["written"]) for result in done)}
    out = sum(w.shard.rows for w in written.values())
    rows = {"in": listing.num_rows, "out": out, "quarantined": len(bad), "duplicates": plan.duplicates}
    if until is not None:
        rows["of_later_classes"] = plan.later_classes
    told = accounted(rows)
    images = readable(plan.rows, unreadable)
    columns = image_columns(options.height, options.width, options.channels, len(plan.classes))
    tables: dict[str, TableEntry] = {}
    splits: dict[str, Any] = {}
    for split in SPLITS:
        shards = [written[name] for name, (of_split, _) in zip(names, places, strict=True) if of_split == split]
        tables[split] = TableEntry(format="tfrecord", columns=columns, shards=tuple(w.shard for w in shards))
        checked = check_shuffle(split, [w.summary for w in shards], records.max_serial_correlation)
        # Images have classes, no positives.
        checked.pop("positives", None)
        splits[split] = {**checked, "classes": class_counts(images, split, plan.classes)}
    tables["images"] = storage.write_arrow(staging, "images", images.sort_by("example_id"), IMAGES)
    tables["quarantine"] = storage.write_arrow(staging, "quarantine", quarantine_table(bad), QUARANTINE)
    context.say(told)
    shape = {
        "height": options.height,
        "width": options.width,
        "channels": options.channels,
        # Where all images have this size, nothing but this line tells how a classifier of them is to fit others.
        "resize": options.resize,
    }
    facts = {"rows": rows, "classes": list(plan.classes), "image": shape, "splits": splits}
    if until is None:
        return Draft(tables, facts, notes={"raw_files": context.raw})
    return Draft(tables, {**facts, "undated": undated}, {"learns_until": until}, {"raw_files": context.raw})


def shard_groups(rows: pa.Table, shards: int) -> list[pa.Table]:
    """The rows of each shard; `rows` are sorted by it."""
    counts = Counter(rows["shard"].to_pylist())
    groups, start = [], 0
    for number in range(shards):
        groups.append(rows.slice(start, counts[number]))
        start += counts[number]
    return groups


def readable(rows: pa.Table, bad: Sequence[dict[str, str]]) -> pa.Table:
    """IMAGES of the rows that could be read."""
    gone = {(row["source"], row["file"]) for row in bad}
    kept = [
        place
        for place, key in enumerate(zip(rows["source"].to_pylist(), rows["name"].to_pylist(), strict=True))
        if key not in gone
    ]
    return rows.select(IMAGES.names).take(pa.array(kept, pa.int64()))


def class_counts(images: pa.Table, split: str, classes: Sequence[str]) -> dict[str, int]:
    """Images of each class in a split."""
    labels = zip(images["split"].to_pylist(), images["label"].to_pylist(), strict=True)
    counts = Counter(label for of_split, label in labels if of_split == split)
    return {name: counts[name] for name in classes}


JOB = Job(
    name="write_image_records",
    dataset="image_records",
    parents=(),
    sections=("images", "records"),
    run=run,
    reads_data=True,
    fingerprint=fingerprint,
    depends=lambda config: str(learns_until(config)),
    arguments=add_runner,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
