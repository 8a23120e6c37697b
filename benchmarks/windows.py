"""Moving windows over a log, Parquet to Parquet: how fast beside Spark's own frames, DuckDB and Polars?

5 million events of 50,000 users on 20,000 items, popularity falling as rank^-0.8 (the first item has 137,000), over 60
days. Of every event: how many events its user and its item had in the 7 and in the 30 days before it, [t - w, t). Every
engine has two cores and reads and writes the same files; all are warm. Results are compared, row by row, before any
ratio is printed. Thaw also honours when each event became available, and computes the provenance of each row, which is
not written here; the others do neither.

EVENTS=500000 makes a smaller one. PEERS=duckdb,polars leaves out the others.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from benchmarks._report import report
from pipelines.config import PreferenceOptions, SparkOptions
from pipelines.preferences.join import attach_statistics
from pipelines.spark import spark_session

EVENTS = int(os.environ.get("EVENTS", "5000000"))
USERS, ITEMS, DAYS, FILES = 50_000, 20_000, 60, 8
DAY_US = 86_400_000_000
START_US = 1_700_000_000_000_000
WINDOWS = {"7d": 7 * DAY_US, "30d": 30 * DAY_US}
KEYS = {"user": "user_id", "item": "item_id"}
COLUMNS = [f"{entity}_event_count_{window}" for entity in KEYS for window in WINDOWS]
PEERS = ("duckdb", "polars", "spark_segment_tree", "spark_range_frames")
REPEATS = 3


def make_log(folder: Path, events: int) -> None:
    """The log as Parquet: strings for ids, microseconds for times, as Thaw's own contract has them."""
    draw = np.random.default_rng(7)
    item = picked(draw, np.arange(1, ITEMS + 1) ** -0.8, events)
    user = picked(draw, draw.lognormal(0, 1, USERS), events)
    moment = START_US + draw.integers(0, DAYS * DAY_US, events)
    table = pa.table(
        {
            "user_id": pa.array(np.char.add("u", user.astype(str))),
            "item_id": pa.array(np.char.add("i", item.astype(str))),
            "event_time": moment,
            "available_time": moment,
            "action": pa.array(np.full(events, "click")),
            "weight": np.ones(events),
        }
    )
    folder.mkdir(parents=True)
    size = -(-events // FILES)
    for number in range(FILES):
        pq.write_table(table.slice(number * size, size), folder / f"part-{number}.parquet", compression="zstd")


def picked(draw: np.random.Generator, weights: np.ndarray, size: int) -> np.ndarray:
    """Numbers from 0, as often as their weights say."""
    shares = weights.cumsum()
    return np.searchsorted(shares / shares[-1], draw.random(size))


def thaw(spark: SparkSession, log: Path, out: Path) -> None:
    """Two sweeps, the log's own events being the rows that ask."""
    options = PreferenceOptions.model_validate({"accuracy": "exact", "windows": list(WINDOWS)})
    rows = spark.read.parquet(str(log)).select(*KEYS.values(), "event_time", "available_time")
    attach = partial(attach_statistics, options=options, priors={}, clock=("event_time", "event_time"))
    for entity, key in KEYS.items():
        rows = attach(rows, None, key=key, entity=entity)
    rows.select(*KEYS.values(), "event_time", *COLUMNS).write.parquet(str(out))


def spark_frames(spark: SparkSession, log: Path, out: Path) -> None:
    """Spark's range frames."""
    rows: DataFrame = spark.read.parquet(str(log))
    for entity, key in KEYS.items():
        for window, length in WINDOWS.items():
            frame = Window.partitionBy(key).orderBy("event_time").rangeBetween(-length, -1)
            rows = rows.withColumn(f"{entity}_event_count_{window}", F.count(F.lit(1)).over(frame))
    rows.select(*KEYS.values(), "event_time", *COLUMNS).write.parquet(str(out))


def in_duckdb(log: Path, out: Path) -> None:
    """DuckDB's window functions, on two threads."""
    counts = ", ".join(
        f"count(*) OVER (PARTITION BY {key} ORDER BY event_time RANGE BETWEEN {length} PRECEDING AND 1 PRECEDING) "
        f"AS {entity}_event_count_{window}"
        for entity, key in KEYS.items()
        for window, length in WINDOWS.items()
    )
    out.mkdir()
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(
            f"COPY (SELECT user_id, item_id, event_time, {counts} FROM '{log}/*.parquet') "
            f"TO '{out}/part.parquet' (FORMAT parquet, COMPRESSION snappy)"
        )


def in_polars(log: Path, out: Path) -> None:
    """Polars' rolling groups: a count over [t - w, t) of each key."""
    rows = pl.read_parquet(f"{log}/*.parquet", columns=["user_id", "item_id", "event_time"]).with_row_index("row")
    found = rows
    for entity, key in KEYS.items():
        ordered = rows.sort(key, "event_time")
        for window, length in WINDOWS.items():
            name = f"{entity}_event_count_{window}"
            rolled = ordered.rolling("event_time", period=f"{length}i", closed="left", group_by=key).agg(
                pl.len().alias(name)
            )
            # Groups come in no order of ours; rows of one key and time have one count.
            counted = ordered.select("row").with_columns(rolled.sort(key, "event_time")[name])
            found = found.join(counted, on="row", how="left")
    out.mkdir()
    found.drop("row").write_parquet(out / "part.parquet", compression="snappy")


def same(first: Path, second: Path) -> bool:
    """Whether two results hold the same rows; no event in sight and none in the window are both 0."""
    names = ", ".join(["user_id", "item_id", "event_time", *(f"coalesce({c}, 0)::BIGINT AS {c}" for c in COLUMNS)])
    with duckdb.connect(config={"threads": 2}) as connection:
        sides = [f"SELECT {names} FROM '{folder}/*.parquet'" for folder in (first, second)]
        query = f"SELECT count(*) FROM (({sides[0]}) EXCEPT ALL ({sides[1]}))"
        found = connection.execute(query).fetchone()
        return found == (0,)


def main() -> None:
    """Make the log, warm up on a twentieth, run each, compare, print."""
    peers = [name for name in os.environ.get("PEERS", ",".join(PEERS)).split(",") if name]
    # The optimising compiler: our own setting for short local chains leaves it out.
    settings = {"spark.driver.extraJavaOptions": "-XX:+UseParallelGC"}
    spark = spark_session(SparkOptions(master="local[2]", driver_memory="6g", shuffle_partitions=8, settings=settings))
    segment = "spark.sql.window.segmentTree.enabled"

    def with_segments(log: Path, out: Path, on: bool) -> None:
        spark.conf.set(segment, str(on).lower())
        spark_frames(spark, log, out)

    work: dict[str, Callable[[Path, Path], None]] = {
        "thaw": lambda log, out: thaw(spark, log, out),
        "duckdb": in_duckdb,
        "polars": in_polars,
        "spark_segment_tree": lambda log, out: with_segments(log, out, True),
        "spark_range_frames": lambda log, out: with_segments(log, out, False),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_log(folder / "warm", EVENTS // 20)
        make_log(folder / "log", EVENTS)
        seconds: dict[str, float] = {}
        for engine in ("thaw", *peers):
            repeats = 1 if engine == "spark_range_frames" else REPEATS
            work[engine](folder / "warm", folder / "warm-out")
            shutil.rmtree(folder / "warm-out")
            times = []
            for _ in range(repeats):
                shutil.rmtree(folder / engine, ignore_errors=True)
                started = time.monotonic()
                work[engine](folder / "log", folder / engine)
                times.append(time.monotonic() - started)
            seconds[engine] = sorted(times)[len(times) // 2]
            print(f"{engine}: {', '.join(f'{t:.1f}' for t in times)} s", flush=True)
            if engine != "thaw" and not same(folder / "thaw", folder / engine):
                raise SystemExit(f"{engine} and thaw must give the same rows, they do not")
    ratios = {engine: seconds[engine] / seconds["thaw"] for engine in peers}
    rows = [[engine, taken, EVENTS / taken, ratios.get(engine, 1.0)] for engine, taken in seconds.items()]
    report(
        "windows",
        ["engine", "seconds", "events/s", "thaw is faster by"],
        rows,
        ratios={engine: round(ratio, 2) for engine, ratio in ratios.items()},
        figures={"thaw_s": round(seconds["thaw"], 2)},
    )
