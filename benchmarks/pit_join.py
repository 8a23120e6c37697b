"""Content as it was: 2 million examples against 2 million dated versions, Parquet to Parquet.

Each example gets the version of its item with the largest valid_from at or before its time. Twice: keys uniform (20,000
items), and one item holding half of both tables. Beside it the union of both tables and `last(ignorenulls)` written by
hand for this one query, which is the fair peer of a Spark job; Spark's native ASOF JOIN, which is quadratic in the rows
of a key and therefore measured, with ours beside it, on a fiftieth of the hot tables; and DuckDB's and Polars' as-of
joins, which do not shuffle and are a reference. Every engine has two cores, all are warm, results are compared.

ROWS=200000 makes smaller tables. PEERS=duckdb,polars leaves out the others.
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
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

from benchmarks._report import report
from pipelines.config import SparkOptions
from pipelines.content.as_of import attach_content
from pipelines.spark import spark_session

os.environ.setdefault("POLARS_MAX_THREADS", "2")  # read when it first works
ROWS = int(os.environ.get("ROWS", "2000000"))
ITEMS, FILES, REPEATS = 20_000, 8, 3
SMALLER = 50
"""The native join's tables have so many times fewer rows."""
SPAN_US = 60 * 86_400_000_000
START_US = 1_700_000_000_000_000
PEERS = ("spark_union_last", "spark_asof_hot", "duckdb", "polars")
OUT = ["example_id", "item_id", "event_time", "category", "price"]


def make_tables(folder: Path, rows: int, hot: float) -> None:
    """`examples` and `versions`, unique by item and time; the first item holds the share `hot` of both."""
    draw = np.random.default_rng(7)

    def items() -> np.ndarray:
        drawn = draw.integers(1, ITEMS, rows)
        return np.where(draw.random(rows) < hot, 0, drawn)

    moments = START_US + draw.integers(0, SPAN_US, rows)
    examples = {"example_id": np.arange(rows), "item_id": _names(items()), "event_time": moments}
    # Distinct times, so that no engine has a tie to resolve.
    valid_from = START_US + draw.permutation(rows) * (SPAN_US // rows)
    versions = {
        "item_id": _names(items()),
        "valid_from": valid_from,
        "category": pa.array(np.char.add("c", draw.integers(0, 500, rows).astype(str))),
        "price": draw.random(rows).round(2),
    }
    for name, columns in (("examples", examples), ("versions", versions)):
        (folder / name).mkdir(parents=True)
        table, size = pa.table(columns), -(-rows // FILES)
        for number in range(FILES):
            pq.write_table(
                table.slice(number * size, size), folder / name / f"part-{number}.parquet", compression="zstd"
            )


def _names(items: np.ndarray) -> pa.Array:
    return pa.array(np.char.add("i", items.astype(str)))


def thaw(spark: SparkSession, data: Path, out: Path) -> None:
    """The join that examples are made with."""
    rows, versions = (spark.read.parquet(str(data / name)) for name in ("examples", "versions"))
    columns = {"category": "category", "price": "price"}
    found = attach_content(rows, versions, id="item_id", time="event_time", columns=columns)
    found.select(*OUT).write.parquet(str(out))


def union_last(spark: SparkSession, data: Path, out: Path) -> None:
    """The same for this query alone."""
    rows, versions = (spark.read.parquet(str(data / name)) for name in ("examples", "versions"))
    dated = versions.select(
        "item_id", F.col("valid_from").alias("event_time"), F.lit(0).alias("turn"), "category", "price"
    )
    both = dated.unionByName(rows.withColumn("turn", F.lit(1)), allowMissingColumns=True)
    so_far = Window.partitionBy("item_id").orderBy("event_time", "turn").rowsBetween(Window.unboundedPreceding, 0)
    found = both.withColumns({name: F.last(name, ignorenulls=True).over(so_far) for name in ("category", "price")})
    found.where("turn = 1").select(*OUT).write.parquet(str(out))


def native(spark: SparkSession, data: Path, out: Path) -> None:
    """Spark's ASOF JOIN."""
    spark.conf.set("spark.sql.join.asofJoin.enabled", "true")
    for name in ("examples", "versions"):
        spark.read.parquet(str(data / name)).createOrReplaceTempView(name)
    query = (
        "SELECT e.example_id, e.item_id, e.event_time, v.category, v.price FROM examples e LEFT ASOF JOIN versions v "
        "MATCH_CONDITION (e.event_time >= v.valid_from) ON e.item_id = v.item_id"
    )
    spark.sql(query).write.parquet(str(out))


def in_duckdb(data: Path, out: Path) -> None:
    """DuckDB's ASOF JOIN, on two threads."""
    out.mkdir()
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(
            f"COPY (SELECT e.example_id, e.item_id, e.event_time, v.category, v.price "
            f"FROM '{data}/examples/*.parquet' e "
            f"ASOF LEFT JOIN '{data}/versions/*.parquet' v ON e.item_id = v.item_id AND e.event_time >= v.valid_from) "
            f"TO '{out}/part.parquet' (FORMAT parquet, COMPRESSION snappy)"
        )


def in_polars(data: Path, out: Path) -> None:
    """Polars' join_asof."""
    rows = pl.read_parquet(f"{data}/examples/*.parquet").sort("event_time")
    versions = pl.read_parquet(f"{data}/versions/*.parquet").sort("valid_from")
    found = rows.join_asof(versions, left_on="event_time", right_on="valid_from", by="item_id", strategy="backward")
    out.mkdir()
    found.select(OUT).write_parquet(out / "part.parquet", compression="snappy")


def same(first: Path, second: Path) -> bool:
    """Whether two results hold the same rows."""
    with duckdb.connect(config={"threads": 2}) as connection:
        sides = [f"SELECT {', '.join(OUT)} FROM '{folder}/*.parquet'" for folder in (first, second)]
        counts = [connection.execute(f"SELECT count(*) FROM ({side})").fetchone() for side in sides]
        differing = f"SELECT count(*) FROM (({sides[0]}) EXCEPT ALL ({sides[1]}))"
        return counts[0] == counts[1] and connection.execute(differing).fetchone() == (0,)


def main() -> None:
    """Make the tables, warm up on a tenth, run each on both, compare, print."""
    peers = [name for name in os.environ.get("PEERS", ",".join(PEERS)).split(",") if name]
    settings = {"spark.driver.extraJavaOptions": "-XX:+UseParallelGC"}
    spark = spark_session(SparkOptions(master="local[2]", driver_memory="6g", shuffle_partitions=8, settings=settings))
    work: dict[str, Callable[[Path, Path], None]] = {
        "thaw": partial(thaw, spark),
        "spark_union_last": partial(union_last, spark),
        "spark_asof_hot": partial(native, spark),
        "duckdb": in_duckdb,
        "polars": in_polars,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_tables(folder / "warm", ROWS // 10, 0.0)
        make_tables(folder / "uniform", ROWS, 0.0)
        make_tables(folder / "hot", ROWS, 0.5)
        make_tables(folder / "hot_smaller", ROWS // SMALLER, 0.5)

        def measured(engine: str, data: str, repeats: int = REPEATS) -> float:
            times = []
            for _ in range(repeats):
                shutil.rmtree(folder / f"{engine}-{data}", ignore_errors=True)
                started = time.monotonic()
                work[engine](folder / data, folder / f"{engine}-{data}")
                times.append(time.monotonic() - started)
            print(f"{engine}, {data}: {', '.join(f'{t:.2f}' for t in times)} s", flush=True)
            if engine != "thaw" and not same(folder / f"thaw-{data}", folder / f"{engine}-{data}"):
                raise SystemExit(f"{engine} and thaw must give the same rows, they do not")
            return sorted(times)[len(times) // 2]

        seconds: dict[tuple[str, str], float] = {}
        measured("thaw", "warm", 1)
        for data in ("uniform", "hot", "hot_smaller"):
            seconds["thaw", data] = measured("thaw", data)
        for engine in peers:
            measured(engine, "warm", 1)
            for data in ("hot_smaller",) if engine == "spark_asof_hot" else ("uniform", "hot"):
                seconds[engine, data] = measured(engine, data)
    ratios = {
        # Of the two tables the one that is worse for us.
        engine: min(taken / seconds["thaw", data] for (name, data), taken in seconds.items() if name == engine)
        for engine in peers
    }
    report(
        "pit_join",
        ["engine", "tables", "seconds", "thaw is faster by"],
        [[engine, data, taken, taken / seconds["thaw", data]] for (engine, data), taken in seconds.items()],
        ratios={engine: round(ratio, 2) for engine, ratio in ratios.items()},
        figures={
            "thaw_uniform_s": round(seconds["thaw", "uniform"], 2),
            "thaw_hot_s": round(seconds["thaw", "hot"], 2),
            "hot_by_uniform": round(seconds["thaw", "hot"] / seconds["thaw", "uniform"], 2),
        },
    )
