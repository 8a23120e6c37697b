from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.records.order import global_order
from pipelines.records.shard_file import shard_name
from pipelines.records.spark_writer import in_total_order, place_records, write_shards
from pipelines.records.wire import decode
from schemas.examples import SPLITS
from schemas.records import record_columns

SPAN = (1_700_000_000_000_000, 1_700_000_010_000_000)


def write(spark, examples, state, folder: Path, partitions: int, num_shards: int) -> dict[str, bytes]:
    """File name -> bytes, for examples in a seeded order and so many partitions."""
    rows = examples.take(np.random.default_rng(partitions).permutation(len(examples)))
    frame = spark.createDataFrame(rows.to_pandas().replace({np.nan: None})).repartition(partitions)
    names = [shard_name(split, number, "") for split in SPLITS for number in range(num_shards)]
    written = write_shards(place_records(frame, state, 7, num_shards), str(folder), names, [SPAN] * len(names))
    assert [w.shard.path for w in written] == names
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == sorted(names)
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("num_shards", [1, 9])
def test_shards_one_after_the_other_are_the_global_order_and_empty_ones_are_files(
    spark, make_examples, small_state, tmp_path: Path, num_shards: int
) -> None:
    examples = make_examples(30)
    files = write(spark, examples, small_state, tmp_path, 2, num_shards)
    columns = record_columns(small_state.inputs)
    for split in SPLITS:
        ids = [decode(raw, columns)["example_id"] for name, raw in files.items() if name.startswith(split)]
        of_split = examples.filter(np.array(examples["split"].to_pylist()) == split)
        wanted = np.array(of_split["example_id"].to_pylist(), "S")
        assert (np.concatenate(ids) == wanted[global_order(wanted, seed=7)]).all()
        assert any(len(some) == 0 for some in ids) == (num_shards == 9)


@pytest.mark.parametrize("cut", [1, 3, 4, 6])
def test_ids_of_one_key_come_in_their_own_order_however_batches_are_cut(cut: int) -> None:
    rows = pa.record_batch({"order_key": [1, 2, 2, 2, 2, 3, 3, 9], "example_id": list("adcbeffg")})
    found = pa.Table.from_batches(in_total_order([rows.slice(0, cut), rows.slice(cut, 0), rows.slice(cut)]))
    assert "".join(found["example_id"].to_pylist()) == "abcdeffg"
    assert found["order_key"].to_pylist() == rows["order_key"].to_pylist()
