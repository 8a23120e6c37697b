"""write_records as a whole job with --out on S3: the records are those of a disk."""

import os
import shutil
from pathlib import Path

import fsspec
import pytest

from jobs.launch import execute, job_named
from pipelines.config import load_config
from pipelines.records.reader import read_split
from pipelines.storage import Dataset, Workspace


def write(config: Path, out: str) -> Dataset:
    """What write_records makes, on the session of the tests."""
    return execute(job_named("write_records"), load_config([config]), Workspace.open(out), None).dataset


@pytest.fixture(scope="module")
def undisturbed(ready_for_records, spark, tmp_path_factory) -> Dataset:
    config, prepared = ready_for_records
    return write(config, str(shutil.copytree(prepared, tmp_path_factory.mktemp("undisturbed") / "out")))


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
