"""Published Parquet is a function of its rows alone: any order, any partitioning, any Java process."""

import os
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from pipelines.spark import read_table, spool, together, write_table
from pipelines.storage import Dataset
from schemas.columns import Column, Table
from schemas.manifest import Manifest
from schemas.to_spark import spark_schema

ROOT = Path(__file__).resolve().parents[2]
TABLE = Table(
    "things",
    (
        Column("id", "string"),
        Column("n", "int64", nullable=True),
        Column("x", "float64", nullable=True),
        Column("small", "float32"),
        Column("yes", "bool"),
        Column("tags", "list<string>", nullable=True),
        Column("vector", "list<float32>", nullable=True),
    ),
    key=("id",),
)
OTHER_PROCESS = """
import sys
from pipelines.config import SparkOptions
from pipelines.spark import spark_session, stop_spark
from tests.pipelines.test_spark import rows_of, written
spark = spark_session(SparkOptions(master="local[1]", driver_memory="512m", shuffle_partitions=2))
print("digests", *[shard.sha256 for shard in written(spark, rows_of(500), sys.argv[1], 3).shards])
stop_spark()
"""


def rows_of(n: int) -> list[tuple]:
    """Rows with missing values, empty and repeated lists, and few distinct values, so that every encoding is used."""
    return [
        (
            f"id{i:04d}",
            None if i % 7 == 0 else i % 5,
            None if i % 3 == 0 else i / 3,
            float(i % 4),
            i % 2 == 0,
            None if i % 5 == 0 else [f"t{i % 3}"] * (i % 4),
            None if i % 6 == 0 else [0.5, float(i)],
        )
        for i in range(n)
    ]


def written(spark, rows, folder, partitions: int, files: int = 3):
    """The entry of the rows, written from so many partitions."""
    frame = spark.createDataFrame(rows, spark_schema(TABLE)).repartition(partitions)
    return write_table(frame, str(folder), "things", TABLE, files=files, by=["id"], order=["id"])


def test_rows_are_counted_by_the_last_attempt_of_each_task(spark) -> None:
    # check_quality's rows in are observed on the way to a shuffle, which a lost executor has done again.
    assert spark.conf.get("spark.sql.legacy.observeMetricsAggregateAllAttempts") == "false"


def test_the_bytes_are_the_same_from_any_order_and_any_number_of_partitions(spark, tmp_path) -> None:
    rows, seen = rows_of(500), set()
    for partitions in (1, 2, 7):
        random.Random(partitions).shuffle(rows)
        seen.add(written(spark, rows, tmp_path / str(partitions), partitions).shards)
    assert len(seen) == 1
    other = [(*row[:2], 0.25, *row[3:]) if row[0] == "id0007" else row for row in rows]
    assert written(spark, other, tmp_path / "other", 2).shards not in seen


def test_another_java_process_writes_the_same_bytes(spark, tmp_path) -> None:
    script = tmp_path / "other_process.py"
    script.write_text(OTHER_PROCESS)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "theirs")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    mine = written(spark, rows_of(500), tmp_path / "mine", 1)
    assert done.stdout.split()[-3:] == [shard.sha256 for shard in mine.shards]


def test_a_written_table_is_read_back_alike_by_spark_and_by_arrow(spark, tmp_path) -> None:
    entry = written(spark, rows_of(50), tmp_path, 2)
    manifest = Manifest(dataset="d", tables={"things": entry}, seed=1)
    dataset = Dataset(str(tmp_path), manifest)
    dataset.verify()
    by_spark = sorted(tuple(row) for row in read_table(spark, dataset, "things", TABLE).collect())
    by_arrow = sorted(tuple(row.values()) for row in dataset.read_table("things").to_pylist())
    assert by_spark == by_arrow == sorted(rows_of(50))


@pytest.mark.parametrize(("n", "files"), [(0, 0), (1, 1)])
def test_a_file_without_rows_is_not_published(spark, tmp_path, n, files) -> None:
    entry = written(spark, rows_of(n), tmp_path, 2)
    assert (len(entry.shards), entry.rows) == (files, n)


def test_work_done_together_gives_its_results_in_order_and_raises_the_first_error() -> None:
    done = []

    def slow(value):
        time.sleep(0.05 if value == 0 else 0)
        done.append(value)
        return value

    assert together(*(partial(slow, value) for value in range(5))) == [0, 1, 2, 3, 4]
    assert done[0] != 0

    def failing():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        together(failing, partial(slow, 1))


def test_a_failure_ends_what_spark_was_doing_and_what_had_not_begun(spark) -> None:
    begun = []

    def endless():
        return spark.range(10**13).selectExpr("sum(id % 7)").collect()

    def failing():
        time.sleep(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        together(endless, failing, partial(begun.append, 1), partial(begun.append, 2))
    assert begun == []


def test_a_session_started_by_another_thread_is_stopped(tmp_path) -> None:
    code = """
import threading, os, psutil
from pipelines.config import SparkOptions
from pipelines.spark import spark_session, stop_spark, warm_up
thread = threading.Thread(target=warm_up, args=[SparkOptions(master="local[1]")])
thread.start(); thread.join()
java = [child for child in psutil.Process().children(recursive=True) if child.name() == "java"]
assert java and spark_session(SparkOptions()).range(3).count() == 3
stop_spark()
left = psutil.wait_procs(java, timeout=20)[1]
print("left", len(left))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == "left 0", done.stderr[-2000:]


def test_a_spooled_frame_has_the_same_rows_and_leaves_nothing_behind(spark, tmp_path) -> None:
    frame = spark.createDataFrame(rows_of(20), spark_schema(TABLE))
    with spool(spark, str(tmp_path / "spool")) as keep:
        kept = keep(frame)
        assert sorted(map(tuple, kept.collect())) == rows_of(20)
        assert len(list((tmp_path / "spool").iterdir())) == 1
    assert not (tmp_path / "spool").exists()
    with pytest.raises(RuntimeError), spool(spark, str(tmp_path / "spool")) as keep:
        keep(frame)
        raise RuntimeError
    assert not (tmp_path / "spool").exists()
