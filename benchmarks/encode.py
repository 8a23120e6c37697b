"""Columns to tf.Examples on one core: how fast beside tf.train.Example, tfx-bsl's C++ encoder, and memory itself?

64 floats, 12 int64 and one string of 8 to 24 bytes (and, by itself, of exactly 16), in two shapes: `lists` is a list of
64, a list of 12 and the string, as Thaw's records have them; `features` is 77 features of one value each. Every encoder
gets the columns in its own form before the clock starts: Arrow for Thaw and tfx-bsl, Python values for
tf.train.Example. Thaw's output is framed, with both CRCs; the others' is not. The limit is one copy of the same bytes
and one CRC over all of them. What each encoder made is parsed by TensorFlow and compared, row by row, before any time
counts. Times are the best of 7, those of the slower two the best of 3: other work on the machine counts less in them.

tfx-bsl does not install beside Thaw: its protobuf and pyarrow are older. Give it an environment of its own, such as
`uv venv --python 3.10 tfx && uv pip install --python tfx/bin/python tfx-bsl==1.16.1`, and name its interpreter by
TFX_BSL_PYTHON=tfx/bin/python. Without it, it is not run, and the table says so.

EXAMPLES=10000 makes fewer.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
import tensorflow as tf

from benchmarks._report import report
from pipelines.records.wire import encode
from schemas.manifest import ColumnEntry
from schemas.to_tf import feature_spec

EXAMPLES = int(os.environ.get("EXAMPLES", "50000"))
BATCH = 10_000
FLOATS, INTS, INT_WIDTH, TEXT = 64, 12, 3, 16
PYTHON_EXAMPLES = 2_000
"""tf.train.Example makes so many: it is slow, and as fast for few as for many."""

IN_TFX_BSL = """
import sys, time
import pyarrow as pa
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
batches = pa.ipc.open_file(sys.argv[1])
batches = [batches.get_batch(i) for i in range(batches.num_record_batches)]
encoder, best = RecordBatchToExamplesEncoder(), float("inf")
for _ in range(3):
    started = time.perf_counter()
    made = [encoder.encode(batch) for batch in batches]
    best = min(best, time.perf_counter() - started)
table = pa.table({"example": pa.array([one for some in made for one in some], pa.binary())})
with pa.ipc.new_file(sys.argv[2], table.schema) as file:
    file.write_table(table)
print(best)
"""


def make_columns(shape: str, varying: bool) -> tuple[tuple[ColumnEntry, ...], dict[str, pa.Array]]:
    """What a record holds, and the seeded values."""
    draw = np.random.default_rng(7)
    floats = draw.random((EXAMPLES, FLOATS), np.float32)
    ints = draw.integers(0, 1 << 7 * INT_WIDTH, (EXAMPLES, INTS))
    sizes = draw.integers(TEXT // 2, TEXT + TEXT // 2 + 1, EXAMPLES) if varying else np.full(EXAMPLES, TEXT)
    text = pa.array([draw.bytes(size) for size in sizes.tolist()], pa.binary())
    string = ColumnEntry(name="text", type="string", length=0 if varying else TEXT)
    if shape == "lists":
        columns = (
            ColumnEntry(name="floats", type="list<float32>", length=FLOATS),
            ColumnEntry(name="ints", type="list<int64>", length=INTS, width=INT_WIDTH),
        )
        return (*columns, string), {"floats": in_lists(floats), "ints": in_lists(ints), "text": text}
    some = {f"f{n}": (ColumnEntry(name=f"f{n}", type="float32"), floats[:, n]) for n in range(FLOATS)}
    some |= {f"i{n}": (ColumnEntry(name=f"i{n}", type="int64", width=INT_WIDTH), ints[:, n]) for n in range(INTS)}
    return (*(column for column, _ in some.values()), string), {
        **{name: pa.array(array) for name, (_, array) in some.items()},
        "text": text,
    }


def in_lists(values: np.ndarray) -> pa.Array:
    """(rows, length) as Arrow lists."""
    rows, length = values.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * length, pa.int32()), pa.array(values.reshape(-1)))


def listed(column: pa.Array) -> pa.Array:
    """A column as lists, the only form that tfx-bsl takes."""
    if pa.types.is_list(column.type):
        return column
    return pa.ListArray.from_arrays(pa.array(np.arange(len(column) + 1), pa.int32()), column)


def thaw(columns: tuple[ColumnEntry, ...], values: dict[str, pa.Array]) -> list[np.ndarray]:
    """Framed records, a batch at a time."""
    return [
        encode({name: array[start : start + BATCH] for name, array in values.items()}, columns)
        for start in range(0, EXAMPLES, BATCH)
    ]


def by_tf_train_example(values: dict[str, pa.Array]) -> tuple[float, list[bytes]]:
    """Seconds per example, and the serialized examples."""
    lists = {
        "f": lambda value: tf.train.Feature(float_list=tf.train.FloatList(value=value)),
        "i": lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=value)),
        "t": lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=value)),
    }
    made: list[bytes] = []
    columns = [(name, lists[name[0]], listed(array[:PYTHON_EXAMPLES]).to_pylist()) for name, array in values.items()]

    def work() -> None:
        made.clear()
        for row in range(PYTHON_EXAMPLES):
            feature = {name: make(column[row]) for name, make, column in columns}
            made.append(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())

    return seconds(work, 3) / PYTHON_EXAMPLES, made


def by_tfx_bsl(values: dict[str, pa.Array]) -> tuple[float, list[bytes]] | None:
    """Seconds per example, and the serialized examples; None without an interpreter that has tfx-bsl."""
    python = os.environ.get("TFX_BSL_PYTHON")
    if not python:
        return None
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "in.arrow", Path(folder) / "out.arrow"
        table = pa.table({name: listed(array) for name, array in values.items()})
        with pa.ipc.new_file(data, table.schema) as file:
            file.write_table(table, max_chunksize=BATCH)
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
        command = [python, "-c", IN_TFX_BSL, str(data), str(out)]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=quiet)
        made = pa.ipc.open_file(out).read_all()["example"].to_pylist()
    return float(run.stdout.split()[-1]) / EXAMPLES, made


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the best of some runs, after one that warms up."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def limit(data: np.ndarray) -> float:
    """Seconds to copy the bytes once and take the CRC of all of them."""
    raw = data.tobytes()
    return seconds(data.copy, 7) + seconds(lambda: google_crc32c.value(raw), 7)


def check_same(ours: list[bytes], theirs: list[bytes], columns: tuple[ColumnEntry, ...], name: str) -> None:
    """Stop where TensorFlow reads other values from one than from the other."""
    spec = feature_spec(columns)
    first, second = (tf.io.parse_example(tf.constant(some), spec) for some in (ours[: len(theirs)], theirs))
    if not theirs or not all((first[column].numpy() == second[column].numpy()).all() for column in spec):
        raise SystemExit(f"{name} and thaw must make the same examples, they do not")


def main() -> None:
    """Make the columns of each shape, compare what is made, time, print."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows: list[list[object]] = []
    ratios: dict[str, float] = {}
    figures: dict[str, float] = {}
    for shape in ("lists", "features"):
        for varying in (True, False):
            columns, values = make_columns(shape, varying)
            made = thaw(columns, values)
            data = np.concatenate([some for some, _ in made])
            ours = [
                raw[start + 12 : end - 4]
                for some, offsets in made
                for raw in [some.tobytes()]
                for start, end in pairwise(offsets.tolist())
            ]
            peers = {"tf.train.Example": by_tf_train_example(values), "tfx-bsl": by_tfx_bsl(values)} if varying else {}
            for name, found in peers.items():
                if found:
                    check_same(ours, found[1], columns, name)
            taken = seconds(lambda c=columns, v=values: thaw(c, v), 7)
            least = limit(data)
            kind = "varying" if varying else "fixed"
            key = ("" if shape == "lists" else "_features") + ("" if varying else "_fixed")
            rows.append([shape, kind, "thaw", EXAMPLES / taken, len(data) / taken / 1e6, "", least / taken])
            rows.append([shape, kind, "copy + CRC", EXAMPLES / least, len(data) / least / 1e6, "", 1.0])
            figures[f"of_limit{key}"] = round(least / taken, 3)
            figures[f"examples_per_s{key}"] = round(EXAMPLES / taken)
            figures[f"bytes_per_s{key}"] = round(len(data) / taken)
            figures[f"limit_bytes_per_s{key}"] = round(len(data) / least)
            for name, found in peers.items():
                if found is None:
                    rows.append([shape, kind, f"{name}: not run, set TFX_BSL_PYTHON", "", "", "", ""])
                    continue
                each, examples = found
                size = sum(map(len, examples)) / len(examples)
                ratio = each * EXAMPLES / taken
                rows.append([shape, kind, name, 1 / each, size / each / 1e6, ratio, ""])
                ratios[name.replace(".", "_").replace("-", "_").lower() + key] = round(ratio, 2)
    header = ["shape", "string", "encoder", "examples/s", "MB/s", "thaw is faster by", "of the limit"]
    report("encode", header, rows, ratios=ratios, figures=figures)
