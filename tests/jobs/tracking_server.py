"""A real MLflow server on loopback: SQLite behind it, artifacts through it. It is gone when the block ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def serving(arguments: Sequence[str], address: str, log: Path, **environment: str) -> Iterator[subprocess.Popen]:
    """`mlflow ARGUMENTS` in a process group of its own, from when `address` answers."""
    # `mlflow models serve` calls uvicorn by name.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments],
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": path, **environment},
        )
    try:
        wait_for(address, process, log)
        yield process
    finally:
        stop(process)


def wait_for(address: str, process: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"{address} does not answer: {log.read_text()[-2000:]}")


def stop(process: subprocess.Popen) -> None:
    """The whole group: a server has workers."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=5)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


class TrackingServer:
    """`uri` answers between start and stop, and again with the same runs after another start."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._block = None

    def start(self) -> None:
        arguments = [
            "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        # Without what answers questions on traces, which Thaw has none of.
        without = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._block = serving(arguments, f"{self.uri}/health", self.folder / "server.log", **without)
        self._block.__enter__()

    def stop(self) -> None:
        if self._block is not None:
            self._block.__exit__(None, None, None)
        self._block = None
