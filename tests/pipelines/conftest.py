"""A small encoder, examples that it encodes, and a `records` dataset made of them without Spark."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.storage import Dataset
from schemas.fitted import EncoderState, InputSpec, Normaliser
from schemas.manifest import Manifest, TableEntry


def _input(name: str, kind: str, length: int, columns: tuple[str, ...], **table: Any) -> InputSpec:
    side = "user" if name.startswith("user") else "item"
    part = "preference" if name.endswith("statistics") else "content"
    return InputSpec(name=name, side=side, part=part, kind=kind, length=length, columns=columns, **table)


@pytest.fixture(scope="session")
def small_state() -> EncoderState:
    """Two ids inputs and two floats inputs."""
    return EncoderState(
        inputs=(
            _input("user_statistics", "floats", 1, ("user_click_count_7d",)),
            _input("item_category", "ids", 1, ("item_category",), table="category", table_size=4),
            _input("item_tags", "ids", 3, ("item_tags",), table="tags", table_size=300),
            _input("item_numbers", "floats", 2, ("item_price", "item_size")),
        ),
        vocabularies={"category": ("a", "b"), "tags": tuple(f"t{i}" for i in range(298))},
        normalisers={
            name: Normaliser(transform="none", mean=0.0, std=1.0)
            for name in ("user_click_count_7d", "item_price", "item_size")
        },
        text_buckets=8,
        max_words=2,
        max_values=3,
    )


def small_examples(rows: int, seed: int = 0) -> pa.Table:
    """Seeded examples in the order of time; three in five train, one each in validation and test."""
    random = np.random.default_rng(seed)
    ids = [hashlib.blake2b(f"{seed}/{row}".encode(), digest_size=16).hexdigest() for row in range(rows)]
    return pa.table(
        {
            "example_id": ids,
            "user_id": [f"u{n}" for n in random.integers(0, 20, rows)],
            "item_id": [f"i{n}" for n in random.integers(0, 30, rows)],
            "event_time": pa.array(1_700_000_000_000_000 + np.arange(rows) * 60_000_000, pa.int64()),
            "label": pa.array(random.integers(0, 2, rows), pa.float32()),
            "weight": pa.array(np.ones(rows), pa.float32()),
            "split": [("train", "train", "train", "validation", "test")[row % 5] for row in range(rows)],
            "user_click_count_7d": pa.array([None if row % 4 == 0 else float(row) for row in range(rows)]),
            "item_category": pa.array([[None, "a", "b", "new"][n] for n in random.integers(0, 4, rows)], pa.string()),
            "item_tags": pa.array(
                [None if n == 0 else [f"t{n * 90}", "t1"] for n in random.integers(0, 4, rows)],
                pa.list_(pa.string()),
            ),
            "item_price": pa.array(random.random(rows)),
            "item_size": pa.array(random.random(rows)),
        }
    )


@pytest.fixture(scope="session")
def make_examples():
    """`small_examples`, as a fixture."""
    return small_examples


@pytest.fixture
def make_records(tmp_path: Path, small_state: EncoderState):
    """rows, num_shards, compression -> a `records` dataset in `tmp_path` (no manifest file)."""
    from pipelines.content.encoder import Encoder
    from pipelines.records.encode import encode_batch
    from pipelines.records.shard_file import shard_name, write_shard
    from schemas.examples import SPLITS
    from schemas.records import record_columns

    def make(rows: int, num_shards: int = 3, compression: str = "") -> Dataset:
        examples = small_examples(rows).combine_chunks().to_batches()[0]
        placed = pa.Table.from_batches([encode_batch(examples, Encoder(small_state), 7, num_shards)])
        placed = placed.sort_by([("order_key", "ascending"), ("example_id", "ascending")])
        tables = {}
        for place, split in enumerate(SPLITS):
            shards = []
            for number in range(num_shards):
                chosen = placed.filter(pa.compute.equal(placed["shard"], place * num_shards + number))
                name = shard_name(split, number, compression)
                shards.append(
                    write_shard(
                        chosen.to_batches(), str(tmp_path), name, (1_700_000_000_000_000, 1_800_000_000_000_000)
                    ).shard
                )
            tables[split] = TableEntry(
                format="tfrecord", columns=record_columns(small_state.inputs), shards=tuple(shards)
            )
        return Dataset(str(tmp_path), Manifest(dataset="records", tables=tables, seed=7))

    return make
