"""A disk that is full: one message and exit code 2, nothing published, nothing left over, and the next run works."""

import errno
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileOpener
from pyspark.errors import PySparkException

from jobs.launch import Draft, Job, execute, guarded, what_the_disk_says
from pipelines.config import parse_config
from pipelines.storage import Workspace, write_arrow
from schemas.columns import Column, Table

CONFIG = {"name": "x", "seed": 1, "labels": {"rule": "sampled", "positive_actions": ["click"]}}
NOISE = Table("noise", (Column("n", "int64"), Column("text", "string")), key=("n",))
ROWS = pa.table({"n": range(2000), "text": [os.urandom(500).hex() for _ in range(2000)]})


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, and what makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (it takes root)")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    subprocess.run(["umount", str(disk)], check=True)


def by_arrow(context) -> Draft:
    first = write_arrow(context.staging, "first", ROWS.slice(0, 10), NOISE)
    return Draft({"first": first, "noise": write_arrow(context.staging, "noise", ROWS, NOISE)})


def run(work, out: Path) -> int:
    job = Job(name="make", dataset="things", parents=(), sections=(), run=work)

    def action() -> int:
        execute(job, parse_config(CONFIG), Workspace.open(str(out)), None)
        return 0

    return guarded(action)


def check_one_message(said: str) -> None:
    wanted = "thaw: --out, Spark's scratch folder (spark.local.dir) and TMPDIR must have room, the system says: "
    assert said.startswith(wanted)
    assert "No space left on device" in said
    assert said.endswith("the same command resumes\n")
    assert len(said.splitlines()) == 1


def test_a_full_disk_is_one_message_and_leaves_nothing_behind(small_disk, capsys) -> None:
    disk, enlarge = small_disk
    assert run(by_arrow, disk / "out") == 2
    check_one_message(capsys.readouterr().err)
    assert list((disk / "out" / "things").iterdir()) == []
    enlarge()
    assert run(by_arrow, disk / "out") == 0
    Workspace.open(str(disk / "out")).current("things").verify()


def test_a_full_disk_met_by_a_spark_worker_is_the_same(small_disk, spark, capsys) -> None:
    from pipelines.spark import write_table

    def by_spark(context) -> Draft:
        frame = spark.createDataFrame(ROWS.to_pandas())
        return Draft({"noise": write_table(frame, context.staging, "noise", NOISE, files=2, by=["n"], order=["n"])})

    disk, enlarge = small_disk
    assert run(by_spark, disk / "out") == 2
    check_one_message(capsys.readouterr().err)
    assert list((disk / "out" / "things").iterdir()) == []
    enlarge()
    assert run(by_spark, disk / "out") == 0
    Workspace.open(str(disk / "out")).current("things").verify()


@pytest.mark.parametrize("fails_at", ["part-00000.parquet", "manifest.json", "CURRENT"])
def test_whichever_file_finds_the_disk_full_the_next_run_makes_the_rest(
    fails_at, tmp_path, monkeypatch, capsys
) -> None:
    def full(file, *arguments):
        if fails_at in file.path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return file.f.write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileOpener, "write", full)
        assert run(by_arrow, tmp_path / "out") == 2
    check_one_message(capsys.readouterr().err)
    assert list((tmp_path / "out" / "things").glob("*/*")) == [] or fails_at == "CURRENT"
    assert Workspace.open(str(tmp_path / "out")).current("things") is None
    assert run(by_arrow, tmp_path / "out") == 0
    Workspace.open(str(tmp_path / "out")).current("things").verify()
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_other_faults_are_not_taken_for_a_full_disk() -> None:
    full = (errno.ENOSPC, errno.EDQUOT)
    assert what_the_disk_says(OSError(errno.EACCES, "Permission denied"), full) == ""
    assert what_the_disk_says(RuntimeError("a fault of ours"), full) == ""
    quota = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/out/x")
    assert what_the_disk_says(quota, full) == "Disk quota exceeded: /out/x"
    wrapped = RuntimeError("while writing")
    wrapped.__cause__ = RuntimeError("Job aborted: java.io.IOException: No space left on device")
    assert what_the_disk_says(wrapped, full) == "No space left on device"


def test_a_permission_that_no_disk_denied_is_not_laid_on_the_disk() -> None:
    forbidden = (errno.EACCES, errno.EPERM)
    assert what_the_disk_says(RuntimeError("ssh: Permission denied (publickey)"), forbidden) == ""
    assert what_the_disk_says(PySparkException("java.io.IOException: Permission denied"), forbidden)
    assert what_the_disk_says(PermissionError(errno.EACCES, "Permission denied", "/x"), forbidden).endswith(": /x")
