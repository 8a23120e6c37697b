"""write_records as a whole job, killed while it writes, and with --out on S3: the records are those of a quiet disk."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import psutil
import pytest

from jobs.launch import execute, job_named
from pipelines.config import load_config
from pipelines.records.reader import read_split
from pipelines.storage import Dataset, Workspace

ROOT = Path(__file__).parents[2]
KILLS = range(int(os.environ.get("THAW_KILLS", "5")))


def write(config: Path, out: str) -> Dataset:
    """What write_records makes, on the session of the tests."""
    return execute(job_named("write_records"), load_config([config]), Workspace.open(out), None).dataset


@pytest.fixture(scope="module")
def undisturbed(ready_for_records, spark, tmp_path_factory) -> Dataset:
    config, prepared = ready_for_records
    return write(config, str(shutil.copytree(prepared, tmp_path_factory.mktemp("undisturbed") / "out")))


@pytest.mark.parametrize("number", [number for number in KILLS if number % 5 == 4])
def test_a_job_killed_while_it_writes_leaves_nothing_half_made_and_the_next_one_makes_the_same(
    number, ready_for_records, undisturbed, watched, tmp_path
) -> None:
    config, prepared = ready_for_records
    out = shutil.copytree(prepared, tmp_path / "out")
    command = [sys.executable, "-m", "jobs.cli", "write_records", "--config", str(config), "--out", str(out)]
    with watched(str(out)):
        job = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        while not list(out.glob("records/*/*")):
            assert job.poll() is None, job.communicate()
            time.sleep(0.01)
        time.sleep(random.Random(number).uniform(0, 0.5))
        children = psutil.Process(job.pid).children(recursive=True)
        job.kill()
        job.communicate()
        made = write(config, str(out))
        made.verify()
        assert made.manifest.content_digest == undisturbed.manifest.content_digest
    assert psutil.wait_procs(children, timeout=20)[1] == []  # Java ends with the Python that started it
    staging = Workspace(str(out)).stage("records", made.manifest.key)
    assert {path.name for path in out.glob("records/*")} == {Path(made.path).name, Path(staging).name, "CURRENT"}


def test_records_on_s3_are_those_of_a_disk_though_spark_has_no_jars_for_it(
    spark, s3, ready_for_records, undisturbed, monkeypatch
) -> None:
    config, prepared = ready_for_records
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    for name in os.environ:
        if name.startswith("AWS_"):  # this session's workers may have been started without
            monkeypatch.setitem(spark.sparkContext.environment, name, os.environ[name])
    fs, path = fsspec.core.url_to_fs(s3)
    fs.put(str(prepared / "examples"), f"{path}/examples", recursive=True)
    fs.pipe_file(f"{path}/.thaw", b"")
    made = write(config, s3)
    Workspace.open(s3).current("records").verify()
    assert made.manifest.content_digest == undisturbed.manifest.content_digest
    assert (read_split(made, "test")["label"] == read_split(undisturbed, "test")["label"]).all()
    assert "hush" not in made.manifest.to_json()
