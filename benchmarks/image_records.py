"""How fast do images become records, beside a plain loop that only decodes them?

The CIFAR-10 JPEGs (THAW_TEST_DATA), unpacked into class folders; each of the 60,000 files counts TIMES times, under
names of its own, so that the start of the workers does not dominate. Ours: the whole Beam pipeline of
`thaw write_image_records` with WORKERS local workers, from the plan to written shards: start of the workers, reading,
decoding, encoding, checksums, files. Listing, planning and the fingerprint are timed beside it. The peer, `pil`: on one
core, `numpy.asarray(Image.open(path).convert("RGB"))` over the same files, nothing written, times WORKERS. The records'
pixels are compared with the loop's before anything is timed. TIMES=1 makes a smaller one.
"""

import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from benchmarks._report import report
from jobs.write_image_records import fingerprint, shard_groups
from pipelines.beam import Keep, open_pipeline, take
from pipelines.config import Config, parse_config
from pipelines.images.listing import list_images
from pipelines.images.plan import plan_records
from pipelines.images.records import WriteImageShards, write_groups
from pipelines.records.reader import read_split
from pipelines.records.shard_file import Written, shard_name
from pipelines.storage import Dataset
from schemas.examples import SPLITS
from schemas.images import image_columns
from schemas.manifest import Manifest, TableEntry

TIMES, WORKERS, SHARDS, REPEATS = int(os.environ.get("TIMES", "8")), 2, 8, 3
LOOP = 20_000


def config() -> Config:
    """Class folders of 32×32 RGB."""
    folders = {"train": "train", "test": "test"}
    images = {"sources": [{"path": ".", "folders": folders}], "height": 32, "width": 32}
    return parse_config({"name": "bench", "seed": 7, "images": images, "beam": {"workers": WORKERS}})


def pixels(path: str) -> Any:
    """What the peer does to one image."""
    return np.asarray(Image.open(path).convert("RGB"))


def times(listing: pa.Table) -> pa.Table:
    """The listing TIMES over, with names of their own."""
    place = listing.schema.get_field_index("name")
    copies = (pc.binary_join_element_wise(listing["name"], str(n), "#") for n in range(TIMES))
    return pa.concat_tables([listing.set_column(place, "name", names) for names in copies])


def write(chosen: Config, rows: Any, classes: int, folder: str) -> tuple[float, dict[str, Written]]:
    """Seconds of the pipeline, and what it wrote."""
    assert chosen.images
    names = [shard_name(split, number, "") for split in SPLITS for number in range(SHARDS)]
    write_groups(f"{folder}/listing.parquet", shard_groups(rows, len(names)))
    started = time.monotonic()
    with open_pipeline(chosen.beam) as pipeline:
        shards = WriteImageShards(f"{folder}/listing.parquet", folder, names, chosen.images, classes, "")
        _ = pipeline | "WriteImageShards" >> shards | "Keep" >> Keep(f"{folder}/written.json")
    seconds = time.monotonic() - started
    found = (Written.model_validate(result["written"]) for result in take(f"{folder}/written.json"))
    return seconds, {written.shard.path: written for written in found}


def check(chosen: Config, rows: Any, classes: int, folder: str, written: dict[str, Written]) -> None:
    """Every record has the pixels that the loop makes of its image."""
    assert chosen.images
    columns = image_columns(chosen.images.height, chosen.images.width, chosen.images.channels, classes)
    paths = dict(zip(rows["example_id"].to_pylist(), rows["file"].to_pylist(), strict=True))
    seen = 0
    for split in SPLITS:
        shards = tuple(w.shard for name, w in sorted(written.items()) if name.startswith(split))
        tables = {split: TableEntry(format="tfrecord", columns=columns, shards=shards)}
        found = read_split(Dataset(folder, Manifest(dataset="image_records", tables=tables, seed=7)), split)
        images = np.frombuffer(b"".join(found["image"]), np.uint8).reshape(-1, 32, 32, 3)
        for example, image in zip(found["example_id"].tolist(), images, strict=True):
            assert np.array_equal(image, pixels(paths[example.decode()].removeprefix("file://"))), paths[example]
            seen += 1
    assert seen == rows.num_rows


def main() -> None:
    """Unpack, compare, time, print."""
    archive = Path(os.environ.get("THAW_TEST_DATA", "/nowhere")) / "cifar10-jpg" / "CIFAR-10-images.tar.gz"
    if not archive.is_file():
        sys.exit("image_records needs THAW_TEST_DATA with cifar10-jpg/CIFAR-10-images.tar.gz")
    chosen = config()
    assert chosen.images
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/data"
        with tarfile.open(archive) as packed:
            packed.extractall(data, filter="data")
        started = time.monotonic()
        listing = list_images(data, chosen.images, folder, lambda line: None)
        plan = plan_records(listing, chosen.images, chosen.seed, SHARDS)
        listed_s = time.monotonic() - started
        started = time.monotonic()
        fingerprint(chosen, data)
        fingerprint_s = time.monotonic() - started
        rows, classes = plan.rows, len(plan.classes)
        _, written = write(chosen, rows, classes, folder)
        check(chosen, rows, classes, folder, written)
        once = rows.num_rows
        rows = plan_records(times(listing), chosen.images, chosen.seed, SHARDS).rows

        files = [file.removeprefix("file://") for file in rows["file"].to_pylist()[:LOOP]]
        loops, ours, starts = [], [], []
        for _ in range(REPEATS):
            started = time.monotonic()
            for path in files:
                pixels(path)
            loops.append(len(files) / (time.monotonic() - started))
            ours.append(write(chosen, rows, classes, folder)[0])
            starts.append(write(chosen, rows.slice(0, SHARDS), classes, folder)[0])
    loop, seconds, start = sorted(loops)[REPEATS // 2], sorted(ours)[REPEATS // 2], sorted(starts)[REPEATS // 2]
    whole = rows.num_rows / seconds
    header = ["what", "images", "seconds", "images/s"]
    table = [
        ["our pipeline", rows.num_rows, seconds, whole],
        ["… of which start (the same with 8 images)", SHARDS, start, ""],
        ["… without the start", rows.num_rows, seconds - start, rows.num_rows / (seconds - start)],
        [f"pil loop on one core, times {WORKERS}", len(files), len(files) / loop / WORKERS, loop * WORKERS],
        ["listing and plan", once, listed_s, once / listed_s],
        ["fingerprint", once, fingerprint_s, once / fingerprint_s],
    ]
    ratios = {"pil": round(whole / (loop * WORKERS), 3)}
    figures = {
        "images_per_s": round(whole),
        "images_per_s_without_start": round(rows.num_rows / (seconds - start)),
        "pil_one_core_images_per_s": round(loop),
        "pil_without_start": round(rows.num_rows / (seconds - start) / (loop * WORKERS), 3),
    }
    report("image_records", header, table, ratios=ratios, figures=figures)
