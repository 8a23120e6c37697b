"""The Spark session, and published Parquet from Spark frames. What a frame holds is left to others."""

import logging
import os
import posixpath
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import reduce
from itertools import chain, count
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark import SparkConf, SparkContext, TaskContext
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from pipelines.cluster import check_master, cluster_fault, is_local, require_code
from pipelines.code import code_version
from pipelines.config import SparkOptions
from pipelines.errors import ConfigError
from pipelines.storage import Dataset, arrow_schema, describe_shard, write_parquet
from schemas.columns import Table
from schemas.manifest import Shard, TableEntry, column_entries
from schemas.to_spark import select_contract, spark_schema

MIN_JAVA = 17
_AT_ONCE = 2
_BATCH_ROWS = 10_000
_PARTITIONS = "spark.sql.shuffle.partitions"
_STARTING = threading.Lock()
_JAVA_OPTIONS = (
    "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC -XX:MetaspaceSize=256m -XX:NewSize=256m"
)
"""The first-tier compiler alone has a code cache of 48 MB, which the generated code of a whole chain fills. Room for
classes and new objects from the start saves half of the collections."""

T = TypeVar("T")
Work = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""What a worker makes of the batches of a partition."""


def check_java() -> None:
    """Raises ConfigError where no Java that Spark 4 can use is found."""
    home = os.environ.get("JAVA_HOME")
    java = posixpath.join(home, "bin", "java") if home else shutil.which("java")
    if not java or not shutil.which(java):
        raise ConfigError(f"Spark needs Java {MIN_JAVA} or newer, found none; install a JDK or set JAVA_HOME")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = said.partition('"')[2].partition('"')[0]
    major = version.split(".")[0].split("-")[0]
    if major.isdigit() and int(major) < MIN_JAVA:
        raise ConfigError(
            f"Spark needs Java {MIN_JAVA} or newer, found {version}; install a newer JDK or set JAVA_HOME"
        )


def spark_session(options: SparkOptions, app: str = "thaw") -> SparkSession:
    """The running session, or a new one, on a cluster that was seen to work.

    Under spark-submit the cluster's settings win: set here are only our Python, what results depend on (UTC, ANSI), how
    Arrow batches are cut, and options.settings. Raises ConfigError where there is no Java, no such master, or no worker
    that can do our work.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    submitted = "SPARK_ENV_LOADED" in os.environ or "PYSPARK_GATEWAY_PORT" in os.environ
    builder = SparkSession.builder.appName(app)
    if not submitted:
        check_java()
        builder = (
            builder.master(options.master)
            .config("spark.driver.memory", options.driver_memory)
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.log.level", "FATAL")  # an error reaches us as an exception, with all it says
            # A short job on few cores spends half its time in the optimising compiler and in planning each stage anew.
            .config("spark.driver.extraJavaOptions", _JAVA_OPTIONS)
            .config("spark.sql.adaptive.enabled", "false")
        )
        if is_local(options.master):  # executors elsewhere must reach the driver
            builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    builder = (
        builder.config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.ansi.enabled", "true")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        # Any smaller limit makes Spark measure the whole Arrow batch after each row (six times the CPU with wide rows);
        # batches stay bounded by their 10,000 rows.
        .config("spark.sql.execution.arrow.maxBytesPerBatch", str(2**31 - 1))
        .config("spark.sql.parquet.compression.codec", "zstd")
    )
    for key, value in options.settings.items():
        builder = builder.config(key, value)
    # Each error would be logged a second time, as pages of JSON, even where we turn it into a message.
    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)
    master = _submitted_master() if submitted else options.master
    with _STARTING:  # another thread waits until the workers were seen
        session = _started(builder, master, options)
    if _PARTITIONS not in options.settings and not session.sparkContext.getConf().contains(_PARTITIONS):
        # Spark's own 200 would make two hundred tasks of every step of a small log.
        session.conf.set(_PARTITIONS, str(options.shuffle_partitions))
    return session


def _started(builder: SparkSession.Builder, master: str, options: SparkOptions) -> SparkSession:
    running = SparkContext._active_spark_context is not None
    if not running:
        check_master(master, options.connect_timeout_s)
    if running or is_local(master):
        return builder.getOrCreate()
    try:
        session = builder.getOrCreate()
    except Exception as error:
        raise ConfigError(
            f"the cluster must take the application, {master} did not ({str(error).splitlines()[0]}); its log and "
            "Spark's own lines above say why (docs/cluster.md)"
        ) from error
    check_workers(session, options.executors_timeout_s)
    return session


def _submitted_master() -> str:
    """The master that spark-submit was given."""
    SparkContext._ensure_initialized()
    return SparkConf().get("spark.master", "local[*]")


def check_workers(session: SparkSession, wait_s: float) -> None:
    """Give a cluster one small task. Raises ConfigError, and ends the session, where no worker can do it.

    Spark itself would wait for ever for an executor that no worker has room for.
    """
    master, version = session.sparkContext.master, code_version()

    def probe(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        require_code(version)
        return batches

    timer = threading.Timer(wait_s, session.sparkContext.cancelAllJobs)
    timer.daemon = True
    timer.start()
    try:
        session.range(1).mapInArrow(probe, "id bigint").collect()
    except Exception as error:
        session.stop()
        if said := cluster_fault(error):
            raise ConfigError(said) from None
        if not timer.is_alive():
            raise ConfigError(
                f"the cluster must give an executor within {wait_s:g} s, {master} gave none; ask for less "
                "(--executor-memory, --executor-cores), or wait for others to end (spark.executors_timeout_s)"
            ) from None
        raise
    finally:
        timer.cancel()


def map_batches(frame: DataFrame, work: Work, schema: StructType | str) -> DataFrame:
    """`frame.mapInArrow(work, schema)`, on a cluster by workers that have the driver's Thaw and by no other.

    Executors come and go while a job runs, so each looks for itself.
    """
    if is_local(str(frame.sparkSession.sparkContext.master)):
        return frame.mapInArrow(work, schema)
    version = code_version()

    def checked(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        require_code(version)
        return work(batches)

    return frame.mapInArrow(checked, schema)


def warm_up(options: SparkOptions) -> None:
    """Start the session and run a first query, in the JVM and in a Python worker.

    Both take seconds to load: a good use of a thread while something else keeps the main one busy.
    """
    map_batches(spark_session(options).range(1), lambda batches: batches, "id bigint").collect()


def stop_spark() -> None:
    """Stop the running session, if there is one, and its Java process with it."""
    # Not the active session, which is each thread's own.
    session = SparkSession._instantiatedSession
    if session is not None:
        gateway = session.sparkContext._gateway
        session.stop()
        if gateway is not None:
            gateway.shutdown()
            if gateway.proc is not None:
                # What the JVM waits for: without it, it keeps its whole heap until Python exits.
                gateway.proc.stdin.close()
            SparkContext._gateway = None
            SparkContext._jvm = None


def read_table(spark: SparkSession, dataset: Dataset, name: str, table: Table) -> DataFrame:
    """A published Parquet table as a frame with the contract's columns."""
    return read_parquet(spark, dataset.table_paths(name), table)


def read_parquet(spark: SparkSession, paths: Sequence[str], table: Table) -> DataFrame:
    """Parquet files of one contract as a frame with its columns.

    Where Spark cannot open their addresses, its Python workers do, through fsspec: every column of every row group is
    then read, whatever the plan needs.
    """
    if not paths:
        return spark.createDataFrame([], spark_schema(table))
    if opens(spark, paths[0]):
        return select_contract(spark.read.parquet(*map(literal, paths)), table)
    places, schema = list(paths), arrow_schema(table)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number in chain.from_iterable(batch.column(0).to_pylist() for batch in batches):
            with fsspec.open(places[number], "rb") as file:
                for batch in pq.ParquetFile(file).iter_batches(_BATCH_ROWS, columns=table.names):
                    yield batch.select(table.names).cast(schema)

    numbers = spark.range(len(places), numPartitions=len(places))
    return select_contract(map_batches(numbers, read, spark_schema(table)), table)


def opens(spark: SparkSession, path: str) -> bool:
    """Whether Spark itself has a file system for this address: those of object stores are in jars of their own."""
    scheme = urlsplit(path).scheme
    if not scheme:
        return True
    # An active session has a gateway.
    java = cast(Any, spark._jvm)
    try:
        java.org.apache.hadoop.fs.FileSystem.getFileSystemClass(scheme, spark._jsc.hadoopConfiguration())
    except Py4JJavaError:
        return False
    return True


def cannot_open(path: str) -> str:
    """What to say, and do, where Spark has no file system for an address it must open itself."""
    scheme = urlsplit(path).scheme
    return (
        f"Spark must have a file system for {scheme}:// to open {path}, it has none; add the jars of that store "
        "(docs/storage.md), or use a local folder"
    )


def literal(path: str) -> str:
    """A file's address for Spark, which would read `*`, `[` and the like as a glob."""
    return reduce(lambda text, mark: text.replace(mark, "\\" + mark), "\\*?[]{}", path)


def write_table(
    frame: DataFrame, path: str, name: str, table: Table, *, files: int, by: Sequence[str], order: Sequence[str]
) -> TableEntry:
    """Write `frame` as up to `files` Parquet files under `path/name`, and describe them; an empty one is left out.

    Rows go to files by the hash of `by` and are sorted by `order` within; where `order` is total, the bytes are a
    function of the rows alone, whatever the order and the number of partitions they came in. That is why Arrow writes
    them: Spark's own files list their encodings in an order that differs from one Java process to the next.
    """
    schema = arrow_schema(table)

    def write_file(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        first = next(batches, None)
        if first is not None:
            # The iterator is fed within a task, so there is a context.
            number = cast(TaskContext, TaskContext.get()).partitionId()
            file = posixpath.join(name, f"part-{number:05d}.parquet")
            rows = write_parquet(posixpath.join(path, file), chain([first], batches), schema)
            yield pa.RecordBatch.from_pylist([describe_shard(path, file, rows).model_dump()])

    fs, _ = fsspec.core.url_to_fs(path)
    fs.makedirs(posixpath.join(path, name), exist_ok=True)
    placed = select_contract(frame, table).repartition(files, *by).sortWithinPartitions(*order)
    written = map_batches(placed, write_file, "path string, rows bigint, bytes bigint, sha256 string").collect()
    shards = sorted((Shard(**row.asDict()) for row in written), key=lambda shard: shard.path)
    return TableEntry(format="parquet", columns=column_entries(table), shards=tuple(shards))


def together(*work: Callable[[], T]) -> list[T]:
    """Results of independent work on Spark, in order: while one plan is made on the driver, another is computed.

    Raises the first error, or an interruption, at once: Spark's running jobs are cancelled, and what had not begun is
    not begun.
    """
    errors: list[BaseException] = []

    def run(task: Callable[[], T]) -> T:
        if errors:
            raise CancelledError
        try:
            return task()
        except BaseException as error:
            errors.append(error)
            raise

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        tasks = [pool.submit(run, task) for task in work]
        try:
            wait(tasks, return_when=FIRST_EXCEPTION)
        except BaseException as interruption:
            errors.append(interruption)
        if errors and SparkContext._active_spark_context is not None:
            SparkContext._active_spark_context.cancelAllJobs()
    if errors:
        raise errors[0]
    return [task.result() for task in tasks]


@contextmanager
def persisted(*frames: DataFrame) -> Iterator[None]:
    """Frames that Spark computes once and keeps until the block ends."""
    for frame in frames:
        frame.persist()
    try:
        yield
    finally:
        for frame in frames:
            frame.unpersist()


@contextmanager
def spool(spark: SparkSession, path: str) -> Iterator[Callable[[DataFrame], DataFrame]]:
    """Keeps frames as files under `path` until the block ends: each is computed once, and later plans start there.

    Unlike persisted frames these shorten the plans made of them, whose analysis grows faster than their length, and
    outlive the loss of an executor.
    """
    with scratch(spark, path) as folder:
        numbers = count()

        def keep(frame: DataFrame) -> DataFrame:
            place = posixpath.join(folder, f"{next(numbers):03d}")
            frame.write.option("compression", "lz4").option("parquet.enable.dictionary", "false").parquet(place)
            return spark.read.schema(frame.schema).parquet(literal(place))

        yield keep


@contextmanager
def scratch(spark: SparkSession, path: str) -> Iterator[str]:
    """A folder for Spark's own files until the block ends: `path`.

    Where Spark has no file system for `path` and works on this machine alone, a temporary folder takes its place.
    Raises ConfigError where it works on others.
    """
    if not opens(spark, path):
        if not is_local(str(spark.sparkContext.master)):
            raise ConfigError(cannot_open(path))
        path = tempfile.mkdtemp(prefix="thaw-spool-")
    fs, _ = fsspec.core.url_to_fs(path)
    try:
        yield path
    finally:
        if fs.exists(path):
            fs.rm(path, recursive=True)
