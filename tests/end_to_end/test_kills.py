"""Runs that are killed while they write: no reader ever meets part of a dataset, and the next run makes the same one.

THAW_KILLS says how many are killed (5, or 30 by `make test-faults`): of five, three on a disk, one on S3 and one job on
Spark, each at a moment drawn by its number.
"""

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
import psutil
import pyarrow as pa
import pytest

from jobs.launch import execute, job_named
from pipelines.config import load_config
from pipelines.features import feature_set
from pipelines.storage import MANIFEST, Dataset, Workspace, arrow_schema, open_dataset, write_arrow
from schemas.examples import example_table
from schemas.manifest import Manifest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KILLS = range(int(os.environ.get("THAW_KILLS", "5")))
STALE_S = "1.5"
SMALL = """
name: small
seed: 7
labels: {rule: threshold, positive_actions: [rate]}
source: {items: [{path: items.csv, id: item, columns: {genre: {kind: category}, size: {kind: number}}}]}
preferences:
  windows: [lifetime]
  statistics: [{name: event, kind: count}]
records: {num_shards: 4}
training: {allow_unaudited: true}
spark: {master: "local[2]", driver_memory: 1g}
"""


def start(*arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *arguments], env=environment, stderr=subprocess.PIPE, text=True)


def writer(out: str) -> subprocess.Popen:
    return start(str(HERE / "small_writer.py"), out, "--stale", STALE_S)


def digest_of(process: subprocess.Popen) -> str:
    """What a small writer that comes to its end has published or found."""
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    return said.split()[-1]


@contextmanager
def watched(out: str) -> Iterator[None]:
    """A reader that opens whatever has a manifest, all the time, and checks every byte of it."""
    ended, met = threading.Event(), []

    def read() -> None:
        fs, root = fsspec.core.url_to_fs(out)
        while not ended.wait(0.05):
            try:
                fs.invalidate_cache()
                for manifest in fs.glob(f"{root}/records/*/{MANIFEST}"):
                    open_dataset(fs.unstrip_protocol(manifest).removesuffix(f"/{MANIFEST}")).verify()
                if current := Workspace(out).current("records"):
                    current.verify()
            except Exception as error:
                met.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        ended.set()
        reader.join()
    assert met == []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[str, float]:
    """The digest, and for how many seconds it writes."""
    process = writer(str(tmp_path_factory.mktemp("undisturbed") / "out"))
    process.stderr.readline()
    started = time.monotonic()
    return digest_of(process), time.monotonic() - started


@pytest.mark.parametrize("number", [number for number in KILLS if number % 5 < 4])
def test_a_killed_writer_leaves_nothing_half_made_and_the_next_one_makes_the_same(
    number, undisturbed, tmp_path, request
) -> None:
    digest, seconds = undisturbed
    out = request.getfixturevalue("s3") if number % 5 == 3 else str(tmp_path / "out")
    with watched(out):
        process = writer(out)
        assert process.stderr.readline() == "writing\n"
        time.sleep(random.Random(number).uniform(0, seconds))
        process.kill()
        process.communicate()
        assert digest_of(writer(out)) == digest
    fs, root = fsspec.core.url_to_fs(f"{out}/records")
    fs.invalidate_cache()
    # A run killed as the last thing it does leaves its claim, for the next that makes this version.
    assert len([path for path in fs.ls(root, detail=False) if not path.endswith(".claim")]) == 2, fs.ls(root)


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> tuple[Path, Path]:
    """A configuration, and a workspace that write_records can run in."""
    folder = tmp_path_factory.mktemp("ready")
    (folder / "small.yaml").write_text(SMALL)
    contract = example_table(feature_set(load_config([folder / "small.yaml"])))
    rows = 6_000
    values = {
        "example_id": [f"{row:032x}" for row in range(rows)],
        "event_time": 1_700_000_000_000_000 + np.random.default_rng(7).permutation(rows),
        "label": np.arange(rows) * 7919 % 3 == 0,
        "split": [("train", "train", "validation", "test")[row % 4] for row in range(rows)],
    }
    values["item_genre"] = [f"g{row % 7}" for row in range(rows)]
    values["item_size"] = np.arange(rows) % 11 / 7
    others = {"string": [f"{row % 50}" for row in range(rows)], "": np.arange(rows) % 50}
    columns = {c.name: pa.array(values.get(c.name, others.get(c.type, others[""]))) for c in contract}
    table = pa.table(columns).cast(arrow_schema(contract))
    workspace = Workspace.open(str(folder / "out"))
    staging = workspace.stage("examples", "k" * 64)
    entry = write_arrow(staging, "examples", table, contract)
    workspace.publish(staging, Manifest(dataset="examples", tables={"examples": entry}, seed=7, key="k" * 64))
    return folder / "small.yaml", folder / "out"


def records(config: Path, out: Path) -> Dataset:
    """What write_records makes, on the session of the tests."""
    return execute(job_named("write_records"), load_config([config]), Workspace(str(out)), None).dataset


@pytest.fixture(scope="module")
def undisturbed_records(ready, spark, tmp_path_factory) -> str:
    """The digest of what was never killed."""
    config, prepared = ready
    out = shutil.copytree(prepared, tmp_path_factory.mktemp("undisturbed") / "out")
    return records(config, out).manifest.content_digest


@pytest.mark.parametrize("number", [number for number in KILLS if number % 5 == 4])
def test_a_spark_job_killed_while_it_writes_leaves_nothing_half_made_and_the_next_one_makes_the_same(
    number, ready, undisturbed_records, tmp_path
) -> None:
    config, prepared = ready
    out = shutil.copytree(prepared, tmp_path / "out")
    with watched(str(out)):
        process = start("-m", "jobs.cli", "write_records", "--config", str(config), "--out", str(out))
        while not list(out.glob("records/*/*")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(random.Random(number).uniform(0, 0.5))
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        assert process.wait() == -9
        assert Workspace(str(out)).current("records") is None
        made = records(config, out)
        made.verify()
        assert made.manifest.content_digest == undisturbed_records
    assert psutil.wait_procs(children, timeout=20)[1] == []  # Java ends with the Python that started it
    staging = Workspace(str(out)).stage("records", made.manifest.key)
    assert {path.name for path in out.glob("records/*")} == {Path(made.path).name, Path(staging).name, "CURRENT"}
