"""Statistics of a log that grows to 30 million events: does time grow faster than rows, and what does a worker hold?

The workload of `windows`: of every event how many events its user and its item had in the 7 and in the 30 days before
it, Parquet to Parquet, 50,000 users and 20,000 items at every size. Memory is the largest resident set that any Python
worker ever had, as the kernel records it.

SIZES=100000,1000000 measures others.
"""

import os
import re
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks._report import report
from benchmarks.windows import make_log, thaw
from pipelines.config import SparkOptions
from pipelines.spark import spark_session

SIZES = [int(size) for size in os.environ.get("SIZES", "1000000,10000000,30000000").split(",")]


class PeakMemory(threading.Thread):
    """Watches this process's Python workers: `mib` is the largest resident set of any of them."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mib = 0.0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Look five times a second."""
        while not self._stop_asked.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "pyspark.daemon" in process.cmdline() or "pyspark.worker" in process.cmdline():
                        status = Path(f"/proc/{process.pid}/status").read_text()
                        found = re.search(r"VmHWM:\s+(\d+) kB", status)
                        self.mib = max(self.mib, int(found[1]) / 1024 if found else 0.0)
                except (OSError, psutil.Error):
                    continue  # it has ended

    def stop(self) -> float:
        """Stop, and say what was found."""
        self._stop_asked.set()
        self.join()
        return self.mib


def main() -> None:
    """Smallest first, after a warm-up."""
    settings = {"spark.driver.extraJavaOptions": "-XX:+UseParallelGC"}
    # A worker ends with its task, so that what it held is of one size of log.
    settings["spark.python.worker.reuse"] = "false"
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_log(folder / "warm", SIZES[0] // 4)
        for size in SIZES:
            make_log(folder / str(size), size)
        spark = spark_session(
            SparkOptions(master="local[2]", driver_memory="6g", shuffle_partitions=16, settings=settings)
        )
        thaw(spark, folder / "warm", folder / "warm-out")
        for size in SIZES:
            watch = PeakMemory()
            watch.start()
            started = time.monotonic()
            thaw(spark, folder / str(size), folder / f"{size}-out")
            taken = time.monotonic() - started
            rows.append([size, taken, size / taken, watch.stop()])
            print(f"{size:,}: {taken:.1f} s", flush=True)
    seconds, memory = {row[0]: row[1] for row in rows}, {row[0]: row[3] for row in rows}
    growth = {f"time_x{size // SIZES[0]}": round(seconds[size] / seconds[SIZES[0]], 2) for size in SIZES[1:]}
    report(
        "feature_growth",
        ["events", "seconds", "events/s", "largest worker, MiB"],
        rows,
        figures={**growth, "worker_mib": round(max(memory.values()))},
    )
