"""Five million examples to shuffled record files on Spark, beside Spark's own Parquet and Beam's own TFRecords.

An example has 32 statistics, a text, a category and bags; its record about 500 bytes. Two kinds of input:

- examples, as the job meets them: we encode, shuffle and write. `spark_parquet` shuffles the same raw columns by a
  shard of its own (xxhash64 of the id), sorts within by the hash and writes Parquet (snappy, its default): it does not
  encode, we do.
- ready-made records with their places, in Parquet: the writer alone. `spark_parquet_records` shuffles by the same
  shard, sorts by the same key and writes Parquet. `beam_write` is Beam's WriteToTFRecord of the same records, which it
  does not shuffle, on a part of them; what it takes beyond a few rows (the start of workers) is scaled to all rows.
  `beam_write_by_beam` is the same over our Beam writer. Both run on Beam's local runner with one worker and with two,
  and the faster counts.

Two cores, all warm. Shards of Spark and Beam, of examples and of ready-made records, must be equal by SHA-256; Parquet
must have as many rows, in order; Beam's own files as many bytes as ours. `time_x10` is our time for all examples over
that for a tenth. Memory is the largest resident set of any of Spark's Python workers.

ROWS=500000 makes it smaller, PART=… the part for Beam, PEERS=spark,beam leaves out others, DATA=folder keeps the input.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from benchmarks._report import report
from benchmarks.feature_growth import PeakMemory
from pipelines.beam import Keep, open_pipeline
from pipelines.config import BeamOptions, SparkOptions
from pipelines.records import beam_examples, spark_writer
from pipelines.records.beam_writer import WriteShards, take_written, written_path
from pipelines.records.encode import example_columns
from pipelines.records.layout import FRAME_HEAD, FRAME_TAIL
from pipelines.records.shard_file import Written, shard_name
from pipelines.spark import spark_session
from schemas.examples import SPLITS
from schemas.fitted import EncoderState, InputSpec, Normaliser

ROWS = int(os.environ.get("ROWS", "5000000"))
PART = int(os.environ.get("PART", str(ROWS // 20)))
PEERS = os.environ.get("PEERS", "spark,beam").split(",")
SEED, NUM_SHARDS, FILES = 7, 8, 4
REPEATS = 2
STATISTICS = {side: [f"{side}_statistic_{n:02d}" for n in range(16)] for side in ("user", "item")}
START_US, SPAN_US = 1_700_000_000_000_000, 60 * 86_400_000_000
NAMES = [shard_name(split, number, "") for split in SPLITS for number in range(NUM_SHARDS)]
SPANS = [(START_US, START_US + SPAN_US)] * len(NAMES)
BLOCK = 1 << 16


def state() -> EncoderState:
    """An encoder of everything that the examples have."""

    def ids(name: str, length: int, table: str, size: int) -> InputSpec:
        side = "user" if name.startswith("user") else "item"
        part = "preference" if name.startswith("user") else "content"
        return InputSpec(
            name=name, side=side, part=part, kind="ids", length=length, table=table, table_size=size, columns=(name,)
        )

    floats = [
        InputSpec(
            name=f"{side}_statistics", side=side, part="preference", kind="floats", length=16, columns=tuple(names)
        )
        for side, names in STATISTICS.items()
    ]
    bags = [
        ids("item_category", 1, "category", 502),
        ids("item_tags", 6, "tags", 2002),
        ids("item_title", 8, "title", 4096),
        ids("user_recent_tags", 10, "tags", 2002),
    ]
    return EncoderState(
        inputs=(*floats, *bags),
        vocabularies={
            "category": tuple(f"c{n}" for n in range(500)),
            "tags": tuple(f"tag{n}" for n in range(2000)),
        },
        normalisers={
            name: Normaliser(transform="log1p", mean=1.0, std=2.0) for names in STATISTICS.values() for name in names
        },
        text_buckets=4095,
        max_words=8,
        max_values=10,
    )


def make_examples(folder: Path, rows: int) -> None:
    """Examples in the order of time, in FILES Parquet files of row groups like those of published ones."""
    folder.mkdir(parents=True)
    for file in range(FILES):
        writer = None
        for start in range(file * rows // FILES, (file + 1) * rows // FILES, BLOCK):
            block = _examples(start, min(BLOCK, (file + 1) * rows // FILES - start), rows)
            writer = writer or pq.ParquetWriter(folder / f"part-{file:05d}.parquet", block.schema, compression="zstd")
            writer.write_table(block)
        if writer:
            writer.close()


def _examples(start: int, rows: int, of: int) -> pa.Table:
    draw = np.random.default_rng([SEED, start])
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)[draw.integers(0, 16, (rows, 32))]
    words = pa.array([f"word{n} of{n % 97} some{n % 31} thing{n % 7} new" for n in range(20_000)])
    tags = pa.array([f"tag{n}" for n in range(2000)])

    def named(prefix: str, highest: int) -> pa.Array:
        return pa.array(np.char.add(prefix, np.arange(highest).astype(str))).take(
            pa.array(draw.integers(0, highest, rows))
        )

    def bag(length: int) -> pa.Array:
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * length)
        return pa.ListArray.from_arrays(offsets, tags.take(pa.array(draw.integers(0, 2000, rows * length))))

    def statistic(number: int) -> pa.Array:
        values = draw.poisson(3, rows).astype(float) if number % 2 else draw.random(rows)
        return pa.array(values, mask=draw.random(rows) < 0.2)

    share = (start + np.arange(rows)) / of
    return pa.table(
        {
            "example_id": pa.array(np.ascontiguousarray(digits).view("S32")[:, 0].astype(str)),
            "user_id": named("u", 50_000),
            "item_id": named("i", 20_000),
            "event_time": pa.array(START_US + (share * SPAN_US).astype(np.int64)),
            "label": pa.array(draw.integers(0, 2, rows), pa.float32()),
            "weight": pa.array(np.ones(rows), pa.float32()),
            "split": pa.array(np.array(SPLITS)[np.digitize(share, [0.8, 0.9])]),
            **{name: statistic(n) for names in STATISTICS.values() for n, name in enumerate(names)},
            "item_category": named("c", 500),
            "item_tags": bag(4),
            "item_title": words.take(pa.array(draw.integers(0, len(words), rows))),
            "user_recent_tags": bag(8),
        }
    )


def thaw(spark: SparkSession, examples: Path, out: Path) -> list[Written]:
    """Our Spark writer."""
    placed = spark_writer.place_records(spark.read.parquet(str(examples)), state(), SEED, NUM_SHARDS)
    return spark_writer.write_shards(placed, str(out), NAMES, SPANS)


def thaw_beam(examples: Path, out: Path) -> list[Written]:
    """Our Beam writer, from examples."""
    paths = [str(path) for path in sorted(examples.glob("*.parquet"))]
    return beam_examples.write_shards(paths, state(), SEED, NUM_SHARDS, str(out), NAMES, SPANS, BeamOptions(workers=2))


def thaw_records(spark: SparkSession, placed: Path, out: Path) -> list[Written]:
    """Our Spark writer, from ready-made records."""
    return spark_writer.write_shards(spark.read.parquet(str(placed)), str(out), NAMES, SPANS)


def spark_parquet(spark: SparkSession, examples: Path, out: Path) -> None:
    """Spark's own shuffle, sort and Parquet of the same columns."""
    rows = spark.read.parquet(str(examples)).select(*example_columns(state()))
    shard = F.pmod(F.xxhash64("example_id"), F.lit(len(NAMES))).cast("int")
    ordered = rows.repartitionById(len(NAMES), shard).sortWithinPartitions(F.xxhash64("example_id"), "example_id")
    ordered.write.option("compression", "snappy").parquet(str(out))


def spark_parquet_records(spark: SparkSession, placed: Path, out: Path) -> None:
    """The same of ready-made records, in our order."""
    ordered = spark.read.parquet(str(placed)).repartitionById(len(NAMES), "shard")
    ordered = ordered.sortWithinPartitions("order_key", "example_id")
    ordered.write.option("compression", "snappy").parquet(str(out))


def check_parquet(spark: SparkSession, out: Path, key: Column) -> None:
    """As many rows, in files each of which is in the order of the key."""
    files = sorted(out.glob("*.parquet"))
    found = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    keys = spark.read.parquet(str(files[0])).select(key.alias("key")).toPandas()["key"]
    if (found, len(files)) != (ROWS, len(NAMES)) or not keys.is_monotonic_increasing:
        raise SystemExit(f"Spark's Parquet must have {ROWS} rows in order in {len(NAMES)} files, it has not")


def make_placed(spark: SparkSession, examples: Path, folder: Path) -> None:
    """Ready-made records with their places, in Parquet without compression, row groups of about 15,000."""
    placed = spark_writer.place_records(spark.read.parquet(str(examples)), state(), SEED, NUM_SHARDS)
    placed.write.option("compression", "none").option("parquet.block.size", 8 << 20).parquet(str(folder))


def _groups(folder: Path, rows: int) -> tuple[list[tuple[str, int]], int]:
    """Row groups that together have at least so many rows, and how many they have."""
    groups, found = [], 0
    for file in sorted(folder.glob("*.parquet")):
        metadata = pq.ParquetFile(file).metadata
        for group in range(metadata.num_row_groups):
            if found < rows:
                groups.append((str(file), group))
                found += metadata.row_group(group).num_rows
    return groups, found


def _blocks(element: tuple[str, int]) -> list[pa.RecordBatch]:
    path, group = element
    return pq.ParquetFile(path).read_row_group(group).combine_chunks().to_batches()


def _rows(element: tuple[str, int]) -> list[bytes]:
    """Unframed: WriteToTFRecord frames them."""
    return [raw[FRAME_HEAD:-FRAME_TAIL] for block in _blocks(element) for raw in block.column("record").to_pylist()]


def blocks_by_beam(workers: int, groups: list[tuple[str, int]], out: Path) -> list[Written]:
    """Our Beam writer, from blocks of ready-made records."""
    kept = written_path(str(out))
    out.mkdir()
    with open_pipeline(BeamOptions(workers=workers)) as pipeline:
        blocks = pipeline | beam.Create(groups) | beam.FlatMap(_blocks).with_output_types(pa.RecordBatch)
        _ = blocks | WriteShards(str(out), NAMES, SPANS) | Keep(kept)
    return take_written(kept, NAMES)


def rows_by_beam(workers: int, groups: list[tuple[str, int]], out: Path) -> int:
    """Beam's own sink. Bytes written."""
    with open_pipeline(BeamOptions(workers=workers)) as pipeline:
        rows = pipeline | beam.Create(groups) | beam.FlatMap(_rows).with_output_types(bytes)
        _ = rows | beam.io.WriteToTFRecord(str(out / "part"), num_shards=len(NAMES))
    return sum(path.stat().st_size for path in out.iterdir())


def timed(name: str, work: Callable[[Path], object], out: Path, repeats: int) -> tuple[float, object]:
    """The median time of so many runs, and what the last one gave."""
    times, result = [], None
    for _ in range(repeats):
        shutil.rmtree(out, ignore_errors=True)
        started = time.monotonic()
        result = work(out)
        times.append(time.monotonic() - started)
    print(f"{name}: {', '.join(f'{t:.2f}' for t in times)} s", flush=True)
    return sorted(times)[(len(times) - 1) // 2], result


def same(what: str, first: object, second: object) -> None:
    """Raises SystemExit where two writers' shards differ."""
    if first != second:
        raise SystemExit(f"{what} must give shards of the same SHA-256, they do not")


def main() -> None:
    """Make the input, warm up on a tenth, run each, compare, print."""
    settings = {"spark.driver.extraJavaOptions": "-XX:+UseParallelGC"}
    spark = spark_session(SparkOptions(master="local[2]", driver_memory="4g", shuffle_partitions=8, settings=settings))
    table: list[list[object]] = []
    ratios: dict[str, float] = {}
    figures: dict[str, float] = {}

    def line(writer: str, of: str, rows: int, seconds: float, ratio: float | str = "") -> None:
        table.append([writer, of, f"{rows:,}", seconds, f"{rows / seconds:,.0f}", ratio])

    with tempfile.TemporaryDirectory() as name:
        folder, kept = Path(name), Path(os.environ.get("DATA", name))
        data, tenth, placed = (kept / f"{what}-{ROWS}" for what in ("examples", "tenth", "records"))
        if not placed.exists():
            make_examples(data, ROWS)
            make_examples(tenth, ROWS // 10)
            make_placed(spark, data, placed)
        thaw(spark, tenth, folder / "warm")
        ours: object = None
        if "spark" in PEERS:
            watch = PeakMemory()
            watch.start()
            tenth_s, _ = timed("thaw, a tenth", partial(thaw, spark, tenth), folder / "tenth", 2)
            figures["worker_mib_tenth"] = round(watch.stop())
            line("Thaw on Spark", "examples", ROWS // 10, tenth_s)
            watch = PeakMemory()
            watch.start()
            ours_s, ours = timed("thaw", partial(thaw, spark, data), folder / "ours", REPEATS)
            figures["worker_mib"] = round(watch.stop())
            figures["time_x10"] = round(ours_s / tenth_s, 2)
            line("Thaw on Spark", "examples", ROWS, ours_s)
            timed("spark_parquet, a tenth", partial(spark_parquet, spark, tenth), folder / "warm", 1)
            peer_s, _ = timed("spark_parquet", partial(spark_parquet, spark, data), folder / "parquet", REPEATS)
            check_parquet(spark, folder / "parquet", F.xxhash64("example_id"))
            ratios["spark_parquet"] = peer_s / ours_s
            line("spark_parquet", "examples", ROWS, peer_s, ratios["spark_parquet"])
        records_s, records = timed("thaw, records", partial(thaw_records, spark, placed), folder / "ours", REPEATS)
        figures["record_bytes"] = round(sum(w.shard.bytes for w in records) / ROWS)  # type: ignore[attr-defined]
        same("examples and ready-made records", records, ours or records)
        line("Thaw on Spark", "records", ROWS, records_s)
        if "spark" in PEERS:
            peer_s, _ = timed(
                "spark_parquet_records", partial(spark_parquet_records, spark, placed), folder / "p", REPEATS
            )
            check_parquet(spark, folder / "p", F.col("order_key"))
            ratios["spark_parquet_records"] = peer_s / records_s
            line("spark_parquet_records", "records", ROWS, peer_s, ratios["spark_parquet_records"])
        if "beam" in PEERS:
            tenth_s, by_spark = timed("thaw, a tenth", partial(thaw, spark, tenth), folder / "tenth", 1)
            spark.stop()
            beam_s, by_beam = timed("thaw on Beam, a tenth", partial(thaw_beam, tenth), folder / "by-beam", 1)
            same("Spark and Beam", by_beam, by_spark)
            line("Thaw on Spark", "examples", ROWS // 10, tenth_s)
            line("Thaw on Beam", "examples", ROWS // 10, beam_s)
            few = _groups(placed, 1)
            rows = _groups(placed, max(PART, few[1] + 1))
            total, least, per_row = 0, dict[str, float](), dict[str, float]()
            for writer, work in (("Thaw on Beam", blocks_by_beam), ("WriteToTFRecord", rows_by_beam)):
                for workers in (1, 2):
                    how = f"{writer}, workers {workers}"
                    few_s, _ = timed(f"{how}, few", partial(work, workers, few[0]), folder / "beam", 1)
                    some_s, result = timed(how, partial(work, workers, rows[0]), folder / "beam", 1)
                    size = result if isinstance(result, int) else sum(w.shard.bytes for w in result)  # type: ignore
                    if size != (total := total or size):
                        raise SystemExit(f"Beam's files must have {total} bytes, they have {size}")
                    line(f"{how}, of that {few_s:.1f} s to start", "records", rows[1], some_s)
                    if some_s < least.get(writer, some_s + 1):
                        least[writer], per_row[writer] = some_s, (some_s - few_s) / (rows[1] - few[1])
            scaled = per_row["WriteToTFRecord"] * ROWS
            ratios["beam_write"] = scaled / records_s
            ratios["beam_write_by_beam"] = per_row["WriteToTFRecord"] / per_row["Thaw on Beam"]
            line("WriteToTFRecord, scaled", "records", ROWS, scaled, ratios["beam_write"])
    report(
        "write_records",
        ["writer", "of", "rows", "seconds", "rows/s", "Thaw is faster by"],
        table,
        ratios={peer: round(ratio, 2) for peer, ratio in ratios.items()},
        figures=figures,
    )
