from pathlib import Path

import numpy as np
import pytest

from pipelines.content.encoder import Encoder
from pipelines.errors import CorruptDatasetError
from pipelines.records.order import global_order
from pipelines.records.reader import read_split
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


def corrupt(path: Path, how: str) -> None:
    raw = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "short":
        path.write_bytes(raw[:-1])
    else:
        raw[100] ^= 1
        path.write_bytes(raw)


@pytest.mark.parametrize(("how", "said"), [("missing", "is missing"), ("short", "bytes, got"), ("altered", "altered")])
def test_a_shard_that_is_not_what_the_manifest_says_is_named(make_records, how: str, said: str) -> None:
    records = make_records(200)
    corrupt(Path(records.table_paths("train")[1]), how)
    with pytest.raises(CorruptDatasetError, match=f"train/part-00001.tfrecord.*{said}"):
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
