"""How fast are records read? 1 million records of about 500 bytes in 16 shards, cached by the operating system.

The peer is the least that TensorFlow can do with such files: read, batch, parse. Beside it the same with tf.data's
parallel parse and prefetch, and with its shuffle as its guide has it. Ours: streamed in order and shuffled, held in
memory, and to numpy without TensorFlow. Rounds alternate between all of them; medians; the same rows come out of each.

ROWS=100000 makes fewer records.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow as pa
import tensorflow as tf

from benchmarks._report import report
from pipelines.records.reader import read_shards
from pipelines.records.shard_file import shard_name, write_shard
from pipelines.records.wire import encode
from pipelines.storage import Dataset
from pipelines.training.input import Input, open_input
from schemas.fitted import InputSpec
from schemas.manifest import Manifest, TableEntry
from schemas.records import record_columns
from schemas.to_tf import feature_spec

ROWS = int(os.environ.get("ROWS", "1000000"))
SHARDS, BATCH, REPEATS = 16, 2048, 3
START_US = 1_700_000_000_000_000
COLUMNS = record_columns(
    (
        InputSpec(name="user_statistics", side="user", part="preference", kind="floats", length=24),
        InputSpec(name="item_numbers", side="item", part="content", kind="floats", length=40),
        InputSpec(name="item_tags", side="item", part="content", kind="ids", length=8, table="tags", table_size=9999),
    )
)


def make_records(folder: str) -> Dataset:
    """A split `train`, written by the project's own encoder, without Spark."""
    draw = np.random.default_rng(7)
    shards = []
    for number in range(SHARDS):
        rows = ROWS // SHARDS
        times = START_US + number * rows + np.arange(rows)
        ids = np.char.mod("%032x", times).astype("S32")
        values = {
            "example_id": ids,
            "label": draw.integers(0, 2, rows).astype("f4"),
            "weight": np.ones(rows, "f4"),
            "event_time": times,
            "user_key": draw.integers(0, 2**62, rows),
            "item_key": draw.integers(0, 2**62, rows),
            "user_statistics": draw.integers(0, 99, (rows, 24)).astype("f4"),
            "item_numbers": draw.integers(0, 99, (rows, 40)).astype("f4"),
            "item_tags": draw.integers(0, 9999, (rows, 8)),
        }
        data, offsets = encode(values, COLUMNS)
        record = pa.Array.from_buffers(
            pa.binary(), rows, [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
        )
        batch = pa.record_batch(
            {"example_id": ids.astype(str), "event_time": times, "label": values["label"], "record": record}
        )
        shards.append(write_shard([batch], folder, shard_name("train", number, ""), (START_US, START_US + ROWS)).shard)
    entry = TableEntry(format="tfrecord", columns=COLUMNS, shards=tuple(shards))
    return Dataset(folder, Manifest(dataset="records", tables={"train": entry}, seed=7))


def sums(batches: Iterable[dict[str, Any]]) -> list[int]:
    """The sum of every numeric column, modulo 2^64 (values are whole). Stops where a record is not read just once."""
    total: dict[str, int] = {}
    times = []
    for batch in batches:
        for name, values in batch.items():
            if (array := np.asarray(values)).dtype.kind != "S" and array.dtype != object:
                whole = array.astype(np.int64).view(np.uint64).sum(dtype=np.uint64)
                total[name] = (total.get(name, 0) + int(whole)) % 2**64
        times.append(np.asarray(batch["event_time"]))
    merged = np.sort(np.concatenate(times))
    if not (np.diff(merged) == 1).all() or len(merged) != ROWS // SHARDS * SHARDS:
        raise SystemExit("every record must be read once, some were not")
    return [total[name] for name in sorted(total)]


def main() -> None:
    """Make the records, check that all ways read the same, then time them in turn."""
    with tempfile.TemporaryDirectory() as folder:
        records = make_records(folder)
        paths, spec = records.table_paths("train"), feature_spec(COLUMNS)
        size = records.manifest.tables["train"].shards[0].bytes // (ROWS // SHARDS)

        def bare(parallel: int | None = None) -> Any:
            rows = tf.data.TFRecordDataset(paths).batch(BATCH)
            batches = rows.map(lambda batch: tf.io.parse_example(batch, spec), num_parallel_calls=parallel)
            return batches.prefetch(tf.data.AUTOTUNE) if parallel else batches

        def shuffled() -> Any:
            files = tf.data.Dataset.from_tensor_slices(paths).shuffle(SHARDS, seed=7)
            rows = files.interleave(tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=tf.data.AUTOTUNE)
            batches = rows.shuffle(65_536, seed=7).batch(BATCH)
            parsed = batches.map(lambda b: tf.io.parse_example(b, spec), num_parallel_calls=tf.data.AUTOTUNE)
            return parsed.prefetch(tf.data.AUTOTUNE)

        def opened(shuffle: bool, memory_bytes: int = 0, deterministic: bool = True) -> Input:
            return open_input(
                records,
                "train",
                BATCH,
                seed=7,
                shuffle=shuffle,
                memory_bytes=memory_bytes,
                deterministic=deterministic,
            )

        started = time.monotonic()
        in_order = opened(False)
        opening_s = time.monotonic() - started
        mixed, loose, held = opened(True), opened(True, deterministic=False), opened(True, 1 << 40)
        ways: dict[str, Callable[[], Iterable[Any]]] = {
            "bare TFRecordDataset, batch, parse_example": bare,
            "the same, parse in parallel and prefetch": lambda: bare(tf.data.AUTOTUNE),
            "tf.data with interleave and shuffle": shuffled,
            "Thaw, streamed in order": lambda: in_order.epoch(0),
            "Thaw, streamed and shuffled": lambda: mixed.epoch(0),
            "Thaw, streamed and shuffled, deterministic=False": lambda: loose.epoch(0),
            "Thaw, held and shuffled": lambda: held.epoch(0),
            "Thaw, to numpy": lambda: read_shards(records, "train"),
        }
        found = [
            sums(item if isinstance(item, dict) else {**item[0], **item[1]} for item in make())
            for make in ways.values()
        ]
        if any(one != found[0] for one in found):
            raise SystemExit("all ways must read the same, they do not")
        taken: dict[str, list[float]] = {name: [] for name in ways}
        busy: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPEATS):
            for name, make in ways.items():
                started, worked = time.monotonic(), time.process_time()
                for _ in make():
                    pass
                taken[name].append(time.monotonic() - started)
                busy[name].append(time.process_time() - worked)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    names = list(ways)
    rows = [
        [
            name,
            seconds[name],
            f"{ROWS / seconds[name]:,.0f}",
            statistics.median(busy[name]) / ROWS * 1e6,
            seconds[names[0]] / seconds[name],
        ]
        for name in names
    ]
    gib_s = ROWS * size / opening_s / 2**30
    report(
        "read_records",
        ["way", "seconds", "records/s", "CPU us/record", "rate over bare"],
        [*rows, [f"opening: SHA-256 of {size} bytes a record", opening_s, f"{gib_s:.2f} GiB/s", "-", "-"]],
        ratios={
            "bare_parse": round(seconds[names[0]] / seconds[names[3]], 2),
            "bare_parse_shuffled": round(seconds[names[0]] / seconds[names[4]], 2),
            "bare_parse_held": round(seconds[names[0]] / seconds[names[6]], 2),
            "parallel_parse": round(seconds[names[1]] / seconds[names[3]], 2),
            "tf_data_shuffle": round(seconds[names[2]] / seconds[names[4]], 2),
        },
        figures={"numpy_records_per_s": round(ROWS / seconds[names[7]]), "opening_gib_per_s": round(gib_s, 2)},
    )
