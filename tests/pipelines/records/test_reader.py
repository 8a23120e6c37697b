import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.content.encoder import Encoder
from pipelines.errors import ConfigError, CorruptDatasetError, InputError
from pipelines.records.order import global_order
from pipelines.records.reader import read_arrow, read_shards, read_split
from schemas.manifest import Shard


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_what_is_read_is_the_encoded_examples_in_the_global_order(
    make_records, make_examples, small_state, compression: str
) -> None:
    read = read_split(make_records(500, compression=compression), "train")
    examples = make_examples(500).to_pandas()
    train = examples[examples.split == "train"]
    order = global_order(np.array(train.example_id.tolist(), "S"), seed=7)
    assert [text.decode() for text in read["example_id"]] == train.example_id.iloc[order].tolist()
    assert (read["event_time"] == train.event_time.to_numpy()[order]).all()
    table = make_examples(500).combine_chunks()
    for side in ("user", "item"):
        for name, values in Encoder(small_state).encode(table, side).items():
            np.testing.assert_array_equal(read[name], values[train.index[order]], err_msg=name)


def test_rows_have_one_key_exactly_where_they_have_one_user(make_records, make_examples) -> None:
    read = read_split(make_records(500), "test")
    users = dict(
        zip(make_examples(500)["example_id"].to_pylist(), make_examples(500)["user_id"].to_pylist(), strict=True)
    )
    pairs = {(users[i.decode()], key) for i, key in zip(read["example_id"], read["user_key"], strict=True)}
    assert len(pairs) == len({user for user, _ in pairs}) == len({key for _, key in pairs})
    assert not set(read["user_key"]) & set(read["item_key"])


def test_a_split_without_rows_has_arrays_without_rows(make_records) -> None:
    read = read_split(make_records(3), "test")
    assert read["item_tags"].shape == (0, 3) and read["label"].shape == (0,)


def publish(records, number: int, raw: bytes) -> Path:
    """Put `raw` in a shard's place, and let the manifest say so: only the records themselves are wrong."""
    path = Path(records.table_paths("train")[number])
    path.write_bytes(raw)
    entry = records.manifest.tables["train"]
    shards = list(entry.shards)
    digest = hashlib.sha256(raw).hexdigest()
    shards[number] = shards[number].model_copy(update={"bytes": len(raw), "sha256": digest})
    records.manifest.tables["train"] = entry.model_copy(update={"shards": tuple(shards)})
    return path


def flipped(raw: bytes, place: int = 200) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


@pytest.mark.parametrize("read", [read_split, lambda *a: list(read_arrow(*a))], ids=["numpy", "arrow"])
def test_a_shard_that_is_missing_short_altered_or_anothers_is_named_with_the_remedy(make_records, read) -> None:
    records = make_records(200)
    first, second = map(Path, records.table_paths("train")[:2])
    published, name = second.read_bytes(), "train/part-00001.tfrecord"
    longer = first.read_bytes() + bytes(len(published))
    for raw, said in (
        (published[:-1], f"must have {len(published)} bytes, got {len(published) - 1}"),
        (flipped(published), "was altered since it was published"),
        (longer[: len(published)], "was altered since it was published"),
    ):
        second.write_bytes(raw)
        with pytest.raises(CorruptDatasetError, match=f"{name} {said}; rebuild records"):
            read(records, "train")
    second.unlink()
    with pytest.raises(CorruptDatasetError, match=f"{name} is missing; rebuild records"):
        read(records, "train")
    assert read(records, "test") is not None


def test_a_damaged_record_of_a_file_that_was_published_so_is_named(make_records) -> None:
    records = make_records(200)
    path = Path(records.table_paths("train")[0])
    whole = path.read_bytes()
    publish(records, 0, flipped(whole, len(whole) - 6))
    with pytest.raises(CorruptDatasetError, match=r"part-00000.tfrecord: record \d+ does not match its CRC; rebuild"):
        read_split(records, "train")
    publish(records, 0, whole[:-7])
    with pytest.raises(CorruptDatasetError, match=r"part-00000.tfrecord: .*; rebuild records"):
        read_split(records, "train")


@pytest.mark.parametrize(
    "harm", [lambda raw: raw[:-9], lambda raw: flipped(raw, len(raw) // 2), lambda raw: b"no gzip"]
)
def test_a_damaged_gzip_file_is_named(make_records, harm) -> None:
    records = make_records(200, compression="GZIP")
    publish(records, 2, harm(Path(records.table_paths("train")[2]).read_bytes()))
    with pytest.raises(CorruptDatasetError, match=r"train/part-00002.tfrecord.gz: .*; rebuild records"):
        read_split(records, "train")


def test_a_file_that_holds_other_records_than_the_columns_is_named(make_records) -> None:
    records = make_records(200)
    entry = records.manifest.tables["train"]
    wrong = entry.model_copy(update={"columns": tuple(reversed(entry.columns))})
    records.manifest.tables["train"] = wrong
    with pytest.raises(CorruptDatasetError, match=r"part-00000.tfrecord.*layout of its columns"):
        read_split(records, "train")
    few = tuple(Shard(**{**shard.model_dump(), "rows": 1}) for shard in entry.shards)
    records.manifest.tables["train"] = entry.model_copy(update={"shards": few})
    with pytest.raises(CorruptDatasetError, match=r"part-00000.tfrecord must have 1 records"):
        read_split(records, "train")


def test_columns_are_chosen_in_the_order_asked_for(make_records) -> None:
    records = make_records(200)
    whole, some = read_split(records, "train"), read_split(records, "train", ["label", "item_tags"])
    assert list(some) == ["label", "item_tags"]
    assert all((some[name] == whole[name]).all() for name in some)
    assert next(read_arrow(records, "train", ["item_tags", "label"])).schema.names == ["item_tags", "label"]


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_arrow_batches_hold_what_the_arrays_hold(make_records, compression: str) -> None:
    records = make_records(200, compression=compression)
    arrays, table = read_split(records, "train"), pa.Table.from_batches(read_arrow(records, "train"))
    assert table.num_rows == 120 and table["item_numbers"].type == pa.list_(pa.float32())
    for name, values in arrays.items():
        if name == "example_id":
            assert table[name].to_pylist() == [text.decode() for text in values]
        else:
            got = table[name].combine_chunks()
            flat = got.flatten() if values.ndim == 2 else got
            np.testing.assert_array_equal(flat.to_numpy(zero_copy_only=False), values.reshape(-1), err_msg=name)
    assert [len(batch) for batch in read_arrow(make_records(3), "test")] == [0, 0, 0]


def test_bytes_keep_their_last_zeros_whichever_shard_has_them(make_records, monkeypatch) -> None:
    records = make_records(60, num_shards=2)
    entry = records.manifest.tables["train"]
    shards = tuple(shard.model_copy(update={"rows": 1}) for shard in entry.shards)
    records.manifest.tables["train"] = entry.model_copy(update={"shards": shards})
    decoded = iter([np.array([b"ab"], "S2"), np.array([b"c\0"], object)])
    monkeypatch.setattr("pipelines.records.reader.decode", lambda *_: {"example_id": next(decoded)})
    assert read_split(records, "train", ["example_id"])["example_id"].tolist() == [b"ab", b"c\0"]
    decoded = iter([np.frombuffer(b"c\0", "S2"), np.array([b"c\0"], object)])
    monkeypatch.setattr("pipelines.records.reader.decode", lambda *_: {"example_id": next(decoded)})
    assert [b["example_id"].to_pylist() for b in read_arrow(records, "train", ["example_id"])] == [["c\0"], ["c\0"]]


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_processes_divide_the_shards_so_that_none_is_lost_or_read_twice(make_records, processes: int) -> None:
    records = make_records(200, num_shards=4)
    times = [
        time
        for index in range(processes)
        for arrays in read_shards(records, "train", ["event_time"], process_index=index, num_processes=processes)
        for time in arrays["event_time"]
    ]
    assert sorted(times) == sorted(read_split(records, "train")["event_time"])
    with pytest.raises(ConfigError, match=f"`process_index` must be from 0 to num_processes - 1, got {processes}"):
        next(read_shards(records, "train", process_index=processes, num_processes=processes))


def test_a_shard_at_a_time_is_held(make_records) -> None:
    records = make_records(4000, num_shards=20)
    whole = sum(shard.bytes for shard in records.manifest.tables["train"].shards)
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    for _ in read_arrow(records, "train"):
        assert pa.total_allocated_bytes() - arrow < whole / 4
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < whole / 2


def test_an_unknown_split_or_column_is_answered_with_the_nearest(make_records) -> None:
    records = make_records(50)
    with pytest.raises(InputError, match="must be among train, validation, test, got 'trian'; did you mean 'train'"):
        read_split(records, "trian")
    with pytest.raises(InputError, match="got 'lable'; did you mean 'label'"):
        next(read_arrow(records, "train", ["event_time", "lable"]))
