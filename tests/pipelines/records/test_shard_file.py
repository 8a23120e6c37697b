from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.content.encoder import Encoder
from pipelines.records.encode import encode_batch
from pipelines.records.shard_file import write_shard

SPAN = (1_700_000_000_000_000, 1_800_000_000_000_000)


@pytest.fixture(scope="module")
def rows(make_examples, small_state) -> pa.Table:
    batch = make_examples(20_000).combine_chunks().to_batches()[0]
    return pa.Table.from_batches([encode_batch(batch, Encoder(small_state), 1, 1)])


@pytest.mark.parametrize("name", ["train/part-00000.tfrecord", "train/part-00000.tfrecord.gz"])
def test_a_file_does_not_depend_on_how_its_rows_were_batched(tmp_path: Path, rows: pa.Table, name: str) -> None:
    written = [
        write_shard(rows.to_batches(max_chunksize=size), str(tmp_path / str(size)), name, SPAN)
        for size in (37, 1_000, 20_000)
    ]
    assert written[0] == written[1] == written[2]
    assert (tmp_path / "37" / name).read_bytes() == (tmp_path / "20000" / name).read_bytes()
    assert written[0].shard.bytes == (tmp_path / "37" / name).stat().st_size


def test_tensorflow_reads_a_compressed_file(tmp_path: Path, rows: pa.Table) -> None:
    import tensorflow as tf

    write_shard(rows.slice(0, 500).to_batches(), str(tmp_path), "x.tfrecord.gz", SPAN)
    read = tf.data.TFRecordDataset(str(tmp_path / "x.tfrecord.gz"), compression_type="GZIP")
    assert sum(1 for _ in read) == 500


def test_a_retried_task_overwrites_and_a_failed_one_leaves_nothing(tmp_path: Path, rows: pa.Table) -> None:
    def fails():
        yield rows.to_batches()[0]
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_shard(fails(), str(tmp_path), "x.tfrecord", SPAN)
    assert list(tmp_path.iterdir()) == []
    first = write_shard(rows.slice(0, 5).to_batches(), str(tmp_path), "x.tfrecord", SPAN)
    again = write_shard(rows.slice(0, 5).to_batches(), str(tmp_path), "x.tfrecord", SPAN)
    assert first == again and [path.name for path in tmp_path.iterdir()] == ["x.tfrecord"]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_equal_neighbours_are_reported_across_batches_too(tmp_path: Path, rows: pa.Table, size: int) -> None:
    doubled = rows.take(np.array([0, 1, 1, 2]))
    written = write_shard(doubled.to_batches(max_chunksize=size), str(tmp_path), "x.tfrecord", SPAN)
    assert written.duplicate == rows["example_id"][1].as_py()
    assert write_shard(rows.to_batches(), str(tmp_path), "y.tfrecord", SPAN).duplicate is None
