from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import CorruptDatasetError
from pipelines.records.reader import read_split
from pipelines.training.input import open_input


def epoch(records, number: int = 0, **options):
    defaults = {"seed": 5, "shuffle": True, "memory_bytes": 1 << 30}
    return list(open_input(records, "train", 64, **{**defaults, **options}).epoch(number).as_numpy_iterator())


def column(batches, name: str) -> np.ndarray:
    return np.concatenate([{**inputs, **extras}[name] for inputs, extras in batches])


IN_MEMORY, STREAMED = {"memory_bytes": 1 << 30}, {"memory_bytes": 0}


@pytest.mark.parametrize("way", [IN_MEMORY, STREAMED], ids=["held", "streamed"])
@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_an_epoch_without_shuffle_is_the_records_in_order(make_records, way, compression: str) -> None:
    records = make_records(500, compression=compression)
    batches, stored = epoch(records, shuffle=False, **way), read_split(records, "train")
    for name, values in stored.items():
        if name != "example_id":
            np.testing.assert_array_equal(column(batches, name), values, err_msg=name)
    inputs, extras = batches[0]
    assert set(inputs) == {"user_statistics", "item_category", "item_tags", "item_numbers"}
    assert inputs["item_tags"].dtype == np.int32 and inputs["item_tags"].shape == (64, 3)
    assert inputs["item_numbers"].dtype == np.float32 and extras["label"].shape == (64,)
    assert len(batches) == 5 and len(batches[-1][1]["label"]) == 300 - 4 * 64


@pytest.mark.parametrize("way", [IN_MEMORY, STREAMED], ids=["held", "streamed"])
def test_a_shuffled_epoch_is_set_by_seed_and_number_and_has_every_row_once(make_records, way) -> None:
    records = make_records(500)
    times = [column(epoch(records, n, seed=s, **way), "event_time") for n, s in ((0, 5), (0, 5), (1, 5), (0, 6))]
    assert (times[0] == times[1]).all()
    one = open_input(records, "train", 64, seed=5, shuffle=True, **way).epoch(0)
    assert all((column(one.as_numpy_iterator(), "event_time") == times[0]).all() for _ in range(2))
    assert (times[0] != times[2]).any() and (times[0] != times[3]).any()
    stored = np.sort(read_split(records, "train")["event_time"])
    assert all((np.sort(some) == stored).all() for some in times)


def test_features_of_a_row_stay_together_when_shuffled(make_records) -> None:
    records = make_records(500)
    batches, stored = epoch(records), read_split(records, "train")
    place = {time: row for row, time in enumerate(stored["event_time"])}
    rows = [place[time] for time in column(batches, "event_time")]
    np.testing.assert_array_equal(column(batches, "item_numbers"), stored["item_numbers"][rows])


@pytest.mark.parametrize("way", [IN_MEMORY, STREAMED], ids=["held", "streamed"])
def test_a_remainder_is_dropped_on_demand_and_the_steps_are_known(make_records, way) -> None:
    opened = open_input(make_records(500), "train", 64, seed=1, shuffle=True, drop_remainder=True, **way)
    assert opened.steps == 4 == len(list(opened.epoch(0))) == int(opened.epoch(0).cardinality())


def test_a_split_without_rows_gives_no_batch(make_records) -> None:
    opened = open_input(make_records(3), "test", 64, seed=1, shuffle=True)
    assert opened.steps == 0 and list(opened.epoch(0)) == []


@pytest.mark.parametrize("way", [IN_MEMORY, STREAMED], ids=["held", "streamed"])
def test_a_missing_shard_is_named_before_training_starts(make_records, way) -> None:
    records = make_records(100)
    Path(records.table_paths("train")[2]).unlink()
    with pytest.raises(CorruptDatasetError, match=r"train/part-00002.tfrecord is missing"):
        open_input(records, "train", 64, seed=1, shuffle=True, **way)
