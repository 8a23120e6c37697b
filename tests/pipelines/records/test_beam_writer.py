from itertools import pairwise
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from pipelines.beam import Keep, open_pipeline
from pipelines.config import BeamOptions
from pipelines.content.encoder import Encoder
from pipelines.records.beam_writer import WriteShards, take_written, written_path
from pipelines.records.encode import encode_batch
from pipelines.records.shard_file import Written, shard_name, write_shard
from schemas.examples import SPLITS

SPAN = (1_700_000_000_000_000, 1_700_000_010_000_000)
ONE = BeamOptions(workers=1)


def placed(examples: pa.Table, state, num_shards: int) -> pa.RecordBatch:
    (batch,) = examples.combine_chunks().to_batches()
    return encode_batch(batch, Encoder(state), 7, num_shards)


def names_of(num_shards: int) -> list[str]:
    return [shard_name(split, number, "") for split in SPLITS for number in range(num_shards)]


def wanted(rows: pa.RecordBatch, folder: Path, num_shards: int) -> list[Written]:
    """The files that one process writes, shard by shard."""
    table = pa.Table.from_batches([rows]).sort_by([("order_key", "ascending"), ("example_id", "ascending")])
    return [
        write_shard(table.filter(pa.compute.equal(table["shard"], n)).to_batches(), str(folder), name, SPAN)
        for n, name in enumerate(names_of(num_shards))
    ]


def written(blocks: list[pa.RecordBatch], folder: Path, num_shards: int, options: BeamOptions = ONE) -> list[Written]:
    names = names_of(num_shards)
    folder.mkdir(exist_ok=True)
    with open_pipeline(options) as pipeline:
        _ = (
            pipeline
            | beam.Create(blocks, reshuffle=False)
            | WriteShards(str(folder), names, [SPAN] * len(names))
            | Keep(written_path(str(folder)))
        )
    found = take_written(written_path(str(folder)), names)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == sorted(names)
    return found


def cut(rows: pa.RecordBatch, blocks: int, seed: int) -> list[pa.RecordBatch]:
    """The rows in a seeded order, in so many blocks."""
    shuffled = rows.take(pa.array(np.random.default_rng(seed).permutation(len(rows))))
    bounds = np.linspace(0, len(rows), blocks + 1).astype(int)
    return [shuffled.slice(a, b - a) for a, b in pairwise(bounds)]


@pytest.mark.parametrize(("blocks", "seed"), [(1, 11), (2, 12), (7, 13)])
def test_files_do_not_depend_on_blocks_or_the_order_of_rows(
    make_examples, small_state, tmp_path: Path, blocks: int, seed: int
) -> None:
    rows = placed(make_examples(400), small_state, 3)
    assert written(cut(rows, blocks, seed), tmp_path / "beam", 3) == wanted(rows, tmp_path / "truth", 3)


def test_two_processes_and_bundles_run_twice_write_the_same_files(make_examples, small_state, tmp_path: Path) -> None:
    rows = placed(make_examples(300), small_state, 2)
    truth = wanted(rows, tmp_path / "truth", 2)
    again = BeamOptions(workers=2, options={"direct_runner_bundle_repeat": 1})
    assert written(cut(rows, 7, 1), tmp_path / "beam", 2, again) == truth


@pytest.mark.parametrize(("rows", "num_shards"), [(0, 2), (1, 16)])
def test_a_shard_that_no_record_falls_into_is_a_file_without_records(
    make_examples, small_state, tmp_path: Path, rows: int, num_shards: int
) -> None:
    all_rows = placed(make_examples(5), small_state, num_shards)
    found = written([all_rows.slice(0, rows)], tmp_path, num_shards)
    assert [w.shard.rows for w in found].count(0) == 3 * num_shards - rows
    assert sum(w.shard.bytes for w in found) == sum(len(r) for r in all_rows.column("record").to_pylist()[:rows])
