"""What both engines promise: the same bytes from the same rows and seed, whatever the order, cuts and retries."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import BeamOptions
from pipelines.records import beam_examples, spark_writer
from pipelines.records.shard_file import Written, shard_name
from schemas.examples import SPLITS

ROOT = Path(__file__).resolve().parents[3]
SPAN = (1_700_000_000_000_000, 1_700_000_010_000_000)
SHARDS = 3


def names_of(shards: int) -> list[str]:
    return [shard_name(split, number, "") for split in SPLITS for number in range(shards)]


def by_spark(spark, examples: pa.Table, state, folder: Path, partitions: int, shards: int = SHARDS) -> list[Written]:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(examples, folder / "examples.parquet")
    frame = spark.read.parquet(str(folder / "examples.parquet")).repartition(partitions)
    placed = spark_writer.place_records(frame, state, 7, shards)
    return spark_writer.write_shards(placed, str(folder / "out"), names_of(shards), [SPAN] * len(names_of(shards)))


def by_beam(examples: pa.Table, state, folder: Path, row_groups: int, shards: int = SHARDS) -> list[Written]:
    (folder / "examples").mkdir(parents=True)
    paths = [str(folder / "examples" / f"{n}.parquet") for n in range(2)]
    half = len(examples) // 2
    for path, rows in zip(paths, (examples.slice(0, half), examples.slice(half)), strict=True):
        pq.write_table(rows, path, row_group_size=-(-len(rows) // row_groups) or 1)
    names = names_of(shards)
    return beam_examples.write_shards(
        paths, state, 7, shards, str(folder / "out"), names, [SPAN] * len(names), BeamOptions(workers=1)
    )


@pytest.mark.parametrize(("cuts", "seed"), [(1, 11), (2, 12), (7, 13)])
def test_spark_and_beam_write_the_same_bytes_from_rows_in_any_order_and_cut(
    spark, make_examples, small_state, tmp_path: Path, cuts: int, seed: int
) -> None:
    examples = make_examples(400)
    truth = by_spark(spark, examples, small_state, tmp_path / "truth", 3)
    assert sum(w.shard.rows for w in truth) == 400
    rows = examples.take(np.random.default_rng(seed).permutation(400))
    assert by_beam(rows, small_state, tmp_path / "beam", cuts) == truth
    assert by_spark(spark, rows, small_state, tmp_path / "spark", cuts) == truth


def test_two_rows_of_one_id_are_told_by_both(spark, make_examples, small_state, tmp_path: Path) -> None:
    examples = make_examples(40)
    doubled = pa.concat_tables([examples, examples.slice(20, 1)])
    found = [
        {w.duplicate for w in written if w.duplicate}
        for written in (
            by_spark(spark, doubled, small_state, tmp_path / "s", 2),
            by_beam(doubled, small_state, tmp_path / "b", 3),
        )
    ]
    assert found == [{examples["example_id"][20].as_py()}] * 2


def test_a_task_that_fails_or_is_killed_and_is_run_again_leaves_the_same_files(
    make_examples, small_state, tmp_path: Path
) -> None:
    examples = make_examples(400)
    pq.write_table(examples, tmp_path / "examples.parquet")
    (tmp_path / "state.json").write_text(small_state.model_dump_json())
    script = Path(__file__).with_name("flaky_spark.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    attempts = sorted(path.name for path in (tmp_path / "attempts").iterdir())
    assert attempts == ["part-00000.0", "part-00000.1", "part-00001.0", "part-00001.1", "part-00001.2", "part-00002.0"]
    by_beam(examples, small_state, tmp_path / "beam", 1)
    files = {p.relative_to(tmp_path / "out"): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    truth = tmp_path / "beam" / "out"
    assert files == {p.relative_to(truth): p.read_bytes() for p in truth.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("rows", "shards"), [(0, 3), (1, 16)])
def test_no_example_and_one_example_are_files_too(
    spark, make_examples, small_state, tmp_path: Path, rows: int, shards: int
) -> None:
    examples = make_examples(5).slice(0, rows)
    written = by_beam(examples, small_state, tmp_path / "beam", 1, shards)
    assert [w.shard.path for w in written] == names_of(shards) and sum(w.shard.rows for w in written) == rows
    assert by_spark(spark, examples, small_state, tmp_path / "spark", 1, shards) == written
