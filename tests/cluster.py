"""A standalone Spark cluster on loopback, of the pip package alone: a master, workers, and what runs on them."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pyspark

HOME = Path(pyspark.__file__).parent
_PDEATHSIG = 1
T = TypeVar("T")


def awaited(found: Callable[[], T | None], what: str, timeout_s: float = 120) -> T:
    """What `found` gives as soon as it gives something."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with suppress(OSError, ValueError, psutil.Error):  # not yet, or no longer
            if (there := found()) is not None:
                return there
        time.sleep(0.1)
    raise TimeoutError(f"no {what} within {timeout_s:g} s")


def said_by(address: str) -> Any:
    """The JSON at an address of this machine."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(address, timeout=60) as answer:
        return json.loads(answer.read())


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    master: str
    workers: list[psutil.Process]

    def executor(self, worker: psutil.Process) -> tuple[str, list[psutil.Process]] | None:
        """An executor that a worker runs now: its number, and the processes of the worker with all that it started."""
        family = worker.children(recursive=True)
        for process in family:
            words = process.cmdline()
            if "--executor-id" in words:
                return words[words.index("--executor-id") + 1], [worker, *family]
        return None


def strike(cluster: Cluster, worker: psutil.Process, application: str) -> str:
    """Kill a worker, with its executor, while tasks run on it, and say which executor.

    The worker and its executor are stopped first. What the driver then counts as running there can never end.
    `application`: the driver's REST address.
    """

    def struck() -> str | None:
        found = cluster.executor(worker)
        if found is None or not running(application, found[0]):
            return None
        number, family = found
        for process in family:
            process.suspend()
        time.sleep(0.3)  # what was on its way to the driver has arrived
        certain = running(application, number)
        for process in family:
            process.kill() if certain else process.resume()
        return number if certain else None

    return awaited(struck, "task on the worker", 300)


def running(application: str, number: str) -> int:
    """Tasks that the driver counts as running on an executor."""
    return sum(one["activeTasks"] for one in said_by(f"{application}/executors") if one["id"] == number)


@contextmanager
def standalone(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A master and workers of one core each, on ports that are free; all they started ends with the block."""
    environment = {**os.environ, "SPARK_HOME": str(HOME)}
    for name in ("PYTHONPATH", "SPARK_CONF_DIR", "PYSPARK_GATEWAY_PORT"):
        environment.pop(name, None)
    environment["SPARK_LOCAL_DIRS"] = str(folder / "spark-local")
    environment["SPARK_DAEMON_JAVA_OPTS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dspark.master.rest.enabled=false"
    started: list[subprocess.Popen] = []

    def start(kind: str, *arguments: str) -> Path:
        log = folder / f"{kind}-{len(started)}.log"
        command = [HOME / "bin" / "spark-class", f"org.apache.spark.deploy.{kind}", "--host", "127.0.0.1", *arguments]
        with log.open("wb") as out:
            started.append(
                subprocess.Popen(command, env=environment, stdout=out, stderr=out, preexec_fn=end_with_this_process)
            )
        return log

    try:
        log = start("master.Master", "--port", "0", "--webui-port", "0")
        master = awaited(lambda: word_of(log, "spark://"), "master")
        for number in range(workers):
            place = str(folder / f"work-{number}")
            start("worker.Worker", "--cores", "1", "--memory", "1g", "--webui-port", "0", "--work-dir", place, master)
        awaited(lambda: log.read_text().count("Registering worker 127.0.0.1") == workers or None, "worker")
        # spark-class replaces itself by Java.
        yield Cluster(master, [psutil.Process(process.pid) for process in started[1:]])
    finally:
        family = []
        for process in started:
            with suppress(psutil.NoSuchProcess):
                family += [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in started:
            process.wait(timeout=20)


def end_with_this_process() -> None:
    """In a new process: ask Linux to kill it when its parent ends, however that comes to its end."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def word_of(log: Path, start: str) -> str | None:
    """The first word of a log that starts so."""
    return next((word for word in log.read_text().split() if word.startswith(start)), None)
