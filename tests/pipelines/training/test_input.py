import math
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.errors import ConfigError, CorruptDatasetError, InputError
from pipelines.records.reader import read_split
from pipelines.storage import Dataset
from pipelines.training import rounds, stream
from pipelines.training.distribution import ROWS
from pipelines.training.input import damage_named, open_input
from pipelines.training.rounds import ROUND_BYTES, Rounds, has_rounds
from pipelines.training.stream import SHUFFLE_ROWS


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


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("way", [IN_MEMORY, STREAMED], ids=["held", "streamed"])
def test_features_of_a_row_stay_together_when_shuffled(make_records, way, compression: str) -> None:
    records = make_records(500, compression=compression)
    batches, stored = epoch(records, **way), read_split(records, "train")
    place = {time: row for row, time in enumerate(stored["event_time"])}
    rows = [place[time] for time in column(batches, "event_time")]
    for name in ("item_numbers", "item_category", "user_key", "label"):
        np.testing.assert_array_equal(column(batches, name), stored[name][rows], err_msg=name)


@pytest.mark.parametrize("way", [IN_MEMORY, STREAMED], ids=["held", "streamed"])
def test_a_remainder_is_dropped_on_demand_and_the_steps_are_known(make_records, way) -> None:
    opened = open_input(make_records(500), "train", 64, seed=1, shuffle=True, drop_remainder=True, **way)
    assert opened.steps == 4 == len(list(opened.epoch(0))) == int(opened.epoch(0).cardinality())


@pytest.mark.parametrize("way", [IN_MEMORY, STREAMED], ids=["held", "streamed"])
def test_a_split_without_rows_gives_no_batch(make_records, way) -> None:
    opened = open_input(make_records(3), "test", 64, seed=1, shuffle=True, **way)
    assert opened.steps == 0 and list(opened.epoch(0)) == []


@pytest.mark.parametrize("way", [IN_MEMORY, STREAMED], ids=["held", "streamed"])
def test_a_missing_shard_is_named_before_training_starts(make_records, way) -> None:
    records = make_records(100)
    Path(records.table_paths("train")[2]).unlink()
    with pytest.raises(CorruptDatasetError, match=r"train/part-00002.tfrecord is missing"):
        open_input(records, "train", 64, seed=1, shuffle=True, **way)


def equal(first, second) -> None:
    """The same batches of (inputs, extras), to the bit."""
    first, second = list(first), list(second)
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for some, same in zip(one, other, strict=True):
            assert set(some) == set(same)
            for name in some:
                np.testing.assert_array_equal(some[name], same[name], err_msg=name)


def joined(parts):
    """The batches of several processes, put together step by step."""
    for step in zip(*parts, strict=True):
        extras = [{name: values for name, values in batch[1].items() if name != ROWS} for batch in step]
        parts = [batch[0] for batch in step], extras
        yield tuple({name: np.concatenate([part[name] for part in side]) for name in side[0]} for side in parts)
        # Each is told how many rows all have.
        assert {int(batch[1].get(ROWS, len(batch[1]["label"]))) for batch in step} == {
            sum(len(batch[1]["label"]) for batch in step)
        }


@pytest.mark.parametrize(
    ("way", "shuffle"), [(IN_MEMORY, True), (STREAMED, False), (STREAMED, True)], ids=["held", "in order", "lanes"]
)
@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_processes_make_together_what_one_makes_from_wherever_they_resume(
    make_records, monkeypatch, way, shuffle: bool, data
) -> None:
    monkeypatch.setattr(stream, "SHUFFLE_ROWS", 64)  # several windows in a lane
    rows, batch = data.draw(st.integers(1, 300)), data.draw(st.sampled_from([3, 6, 16, 40]))
    processes = data.draw(st.sampled_from([n for n in (1, 2, 4, 8) if math.gcd(batch, 8) % n == 0]))
    options = {
        "seed": data.draw(st.integers(0, 9)),
        "shuffle": shuffle,
        "drop_remainder": data.draw(st.booleans()),
        **way,
    }
    records = make_records(rows, num_shards=data.draw(st.integers(1, 5)))
    alone = open_input(records, "train", batch, **options)
    whole = list(alone.epoch(3).as_numpy_iterator())
    assert len(whole) == alone.steps
    start = data.draw(st.integers(0, alone.steps))
    parts = [
        open_input(records, "train", batch, process_index=p, num_processes=processes, **options)
        for p in range(processes)
    ]
    equal(joined([part.epoch(3, start).as_numpy_iterator() for part in parts]), whole[start:])
    # And the one process read every row once.
    read = np.sort(column(whole, "event_time")) if whole else np.array([])
    stored = np.sort(read_split(records, "train")["event_time"])
    if options["drop_remainder"]:
        assert len(read) == len(stored) // batch * batch and np.isin(read, stored).all() and (np.diff(read) > 0).all()
    else:
        np.testing.assert_array_equal(read, stored)


def test_a_streamed_epoch_does_not_depend_on_the_seed_of_tensorflow(make_records) -> None:
    records = make_records(200)
    tf.random.set_seed(1)
    first = epoch(records, **STREAMED)
    tf.random.set_seed(2)
    equal(first, epoch(records, **STREAMED))


def test_a_streamed_epoch_mixes_rows_of_every_shard_within_a_batch(make_records) -> None:
    records = make_records(500, num_shards=4)
    place = {time: row for row, time in enumerate(read_split(records, "train")["event_time"])}
    rows = np.array([place[time] for time in epoch(records, **STREAMED)[0][1]["event_time"]])
    assert len(np.unique(rows // 75)) == 4
    # A batch has its lanes one after the other, and within each the rows are mixed.
    within = rows.reshape(8, 8)
    assert (np.diff(within) != 1).mean() > 0.8 and (np.diff(within) < 0).mean() > 0.25


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_in_any_order_are_still_every_row_once(make_records, shuffle: bool) -> None:
    records = make_records(200)
    times = column(epoch(records, shuffle=shuffle, deterministic=False, **STREAMED), "event_time")
    assert (np.sort(times) == np.sort(read_split(records, "train")["event_time"])).all()


def test_records_of_an_object_store_are_streamed_too(make_records) -> None:
    here = make_records(100, compression="GZIP")
    store = Dataset("memory://bucket/records", here.manifest)
    fs = fsspec.filesystem("memory")
    fs.put(f"{here.path}/train", "/bucket/records/", recursive=True)
    equal(epoch(here, **STREAMED), epoch(store, **STREAMED))
    equal(epoch(here, **IN_MEMORY), epoch(store, **IN_MEMORY))
    fs.pipe_file("/bucket/records/train/part-00001.tfrecord.gz", b"x" * here.manifest.tables["train"].shards[1].bytes)
    with pytest.raises(CorruptDatasetError, match=r"^memory://bucket/records/train/part-00001.tfrecord.gz was altered"):
        epoch(store, **STREAMED)


def flip(path: str) -> None:
    raw = bytearray(Path(path).read_bytes())
    raw[200] ^= 1
    Path(path).write_bytes(raw)


@pytest.mark.parametrize("way", [IN_MEMORY, STREAMED], ids=["held", "streamed"])
def test_a_shard_that_another_took_the_place_of_is_named_before_training_starts(make_records, way) -> None:
    records = make_records(60, num_shards=2)
    first, second = map(Path, records.table_paths("train"))
    entry = records.manifest.tables["train"]
    size = min(first.stat().st_size, second.stat().st_size)
    # Cut to whole records of one number, so that only the digest tells them apart.
    record = entry.shards[0].bytes // entry.shards[0].rows
    first.write_bytes(second.read_bytes()[: size // record * record])
    shard = entry.shards[0].model_copy(update={"bytes": first.stat().st_size, "rows": size // record})
    records.manifest.tables["train"] = entry.model_copy(update={"shards": (shard, entry.shards[1])})
    with pytest.raises(CorruptDatasetError, match=r"train/part-00000.tfrecord was altered .* rebuild records"):
        open_input(records, "train", 64, seed=1, shuffle=True, **way)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("harm", "said"), [(flip, "was altered"), (lambda path: Path(path).unlink(), "is missing")])
def test_a_shard_that_is_damaged_while_training_is_named(make_records, harm, said: str, shuffle: bool) -> None:
    records = make_records(100)
    opened = open_input(records, "train", 64, seed=1, shuffle=shuffle, **STREAMED)
    harm(records.table_paths("train")[2])
    with pytest.raises(CorruptDatasetError, match=f"train/part-00002.tfrecord {said}"), damage_named(opened):
        list(opened.epoch(0))


def test_an_error_of_tensorflow_that_is_not_of_the_files_is_left_as_it_is(make_records) -> None:
    opened = open_input(make_records(30), "train", 64, seed=1, shuffle=False, **STREAMED)
    with pytest.raises(tf.errors.InvalidArgumentError), damage_named(opened):
        tf.reshape([1, 2, 3], [2])


def test_only_what_has_one_shape_is_held(make_records) -> None:
    records = make_records(100)
    entry = records.manifest.tables["train"]
    *others, last = entry.columns
    columns = (*others, last.model_copy(update={"nullable": True}))
    records.manifest.tables["train"] = entry.model_copy(update={"columns": columns})
    assert open_input(records, "train", 64, seed=1, shuffle=True).held is None
    assert open_input(records, "test", 64, seed=1, shuffle=True).held is not None


def test_strings_beside_the_id_are_left_to_tensorflow_and_wide_rows_make_short_rounds(make_records) -> None:
    records = make_records(100)
    opened = open_input(records, "train", 10, seed=1, shuffle=True, **STREAMED)
    columns = records.manifest.tables["train"].columns
    assert has_rounds(columns, opened.stream)
    picture = columns[0].model_copy(update={"name": "image", "type": "string", "length": 4})
    assert not has_rounds((*columns, picture), opened.stream)
    wide = columns[0].model_copy(update={"name": "vector", "type": "list<float32>", "length": 100_000})
    made = [Rounds(opened.stream, some, 10, 10, range(1), 1, 5) for some in (columns, (*columns, wide))]
    assert made[0].steps_of_round == SHUFFLE_ROWS // 10
    assert 400_000 * 10 * made[1].steps_of_round <= ROUND_BYTES


def test_batches_do_not_depend_on_how_many_rows_are_decoded_at_a_time(make_records, monkeypatch) -> None:
    records = make_records(500)
    whole = epoch(records, **STREAMED)
    # A few rows, so that pieces begin and end within a batch and over its end.
    for size in (1, 3000):
        monkeypatch.setattr(rounds, "BLOCK_BYTES", size)
        equal(epoch(records, **STREAMED), whole)


def test_epochs_that_are_read_side_by_side_do_not_share_memory(make_records, monkeypatch) -> None:
    monkeypatch.setattr(stream, "SHUFFLE_ROWS", 64)  # several rounds
    opened = open_input(make_records(500), "train", 64, seed=5, shuffle=True, **STREAMED)
    alone = [list(opened.epoch(number).as_numpy_iterator()) for number in (0, 1)]
    together = zip(*(opened.epoch(number).as_numpy_iterator() for number in (0, 1)), strict=True)
    for expected, found in zip(alone, zip(*together, strict=True), strict=True):
        equal(found, expected)


def test_what_cannot_be_opened_is_explained(make_records) -> None:
    records = make_records(100)

    def opening(batch_size=64, split="train", **more):
        return open_input(records, split, batch_size, **{"seed": 1, "shuffle": True, **more})

    with pytest.raises(InputError, match="must be among train, validation, test, got 'trian'; did you mean 'train'"):
        opening(split="trian")
    with pytest.raises(ConfigError, match=r"`process_index` must be from 0 to num_processes - 1, got 2 of 2"):
        opening(process_index=2, num_processes=2)
    with pytest.raises(ConfigError, match=r"`batch_size` must be a multiple .* got 10 and 4; set training.batch_size"):
        opening(10, num_processes=4)
    with pytest.raises(ConfigError, match=r"must divide its 2 lanes, gcd\(batch_size, 8\), got 6"):
        opening(6, num_processes=6, **STREAMED)
    with pytest.raises(InputError, match=r"`start_step` must be from 0 to 1, .* got 2"):
        opening().epoch(0, 2)
    with pytest.raises(InputError, match="`deterministic`"):
        opening(deterministic=False).epoch(0, 1)


@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
@pytest.mark.parametrize("process", [(0, 1), (1, 2)], ids=["alone", "second of two"])
@pytest.mark.parametrize("way", [IN_MEMORY, STREAMED], ids=["held", "streamed"])
def test_the_examples_of_a_batch_can_be_named_afterwards(make_records, way, process, shuffle) -> None:
    records = make_records(500)
    share = dict(zip(("process_index", "num_processes"), process, strict=True))
    opened = open_input(records, "train", 64, seed=5, shuffle=shuffle, **way, **share)
    stored = read_split(records, "train", ["example_id", "event_time"])
    name = dict(zip(stored["event_time"].tolist(), stored["example_id"].tolist(), strict=True))
    batches = list(opened.epoch(2).as_numpy_iterator())
    for step in (0, 4):
        expected = [name[time].decode() for time in batches[step][1]["event_time"].tolist()]
        assert opened.example_ids(2, step) == expected
