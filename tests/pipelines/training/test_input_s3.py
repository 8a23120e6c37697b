"""The training's input, read from S3."""

import fsspec
import numpy as np
import tensorflow as tf

from pipelines.storage import Dataset
from pipelines.training.input import open_input


def test_batches_read_from_s3_are_those_read_from_a_disk(s3, make_records, tmp_path) -> None:
    records = make_records(60, compression="GZIP")
    fs, path = fsspec.core.url_to_fs(s3)
    fs.put(str(tmp_path / "train"), f"{path}/train", recursive=True)
    fs.put(str(tmp_path / "validation"), f"{path}/validation", recursive=True)
    fs.put(str(tmp_path / "test"), f"{path}/test", recursive=True)
    there = Dataset(s3, records.manifest)
    batches = [
        list(open_input(dataset, "train", 8, seed=3, shuffle=True).epoch(0).as_numpy_iterator())
        for dataset in (records, there)
    ]
    assert len(batches[0]) == 5
    tf.nest.map_structure(np.testing.assert_array_equal, *batches)
