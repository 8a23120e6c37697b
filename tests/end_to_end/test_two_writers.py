"""Two runs that want to make the same version at once: one makes it, the other waits, says so, and reads it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.storage import MANIFEST, Workspace

HERE = Path(__file__).parent
WAITS = "`records` is being made by another run (process {pid} on "


@pytest.fixture(params=["disk", "s3"])
def out(request, tmp_path) -> str:
    return str(tmp_path / "out") if request.param == "disk" else request.getfixturevalue("s3")


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a writer; none outlives its test, nor two minutes."""
    runs: list[tuple[subprocess.Popen, threading.Timer]] = []

    def begin(out: str, *options: str, stale: int = 10) -> subprocess.Popen:
        command = [sys.executable, str(HERE / "small_writer.py"), out, "--stale", str(stale), *options]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
        run = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        timer = threading.Timer(120, run.kill)
        timer.start()
        runs.append((run, timer))
        return run

    yield begin
    for run, timer in runs:
        timer.cancel()
        run.kill()
        run.wait()


def until(process: subprocess.Popen, line: str) -> str:
    """Read what a process says until it says `line`, which is returned whole."""
    heard = []
    for said in process.stderr:
        heard.append(said)
        if line in said:
            return said
    raise AssertionError(f"{line!r} was never said, but {heard}")


def go_on(process: subprocess.Popen) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_two_runs_one_makes_the_version_and_the_other_waits_for_it(out, start) -> None:
    first = start(out, "--hold")
    until(first, "writing")
    second = start(out)
    waiting = until(second, "is being made by another run")
    assert waiting.startswith(WAITS.format(pid=first.pid))
    assert waiting.endswith("UTC); this one waits for it\n")
    go_on(first)
    made = until(first, "published ").split()[1]
    assert until(second, "found ").split()[1] == made
    assert (first.wait(), second.wait()) == (0, 0)
    Workspace(out).current("records").verify()


def test_a_run_that_waits_makes_the_version_itself_where_the_other_is_killed(out, start) -> None:
    first = start(out, "--hold", stale=2)
    until(first, "writing")
    second = start(out, stale=2)
    until(second, "this one waits for it")
    first.kill()
    until(second, "writing")
    assert (first.wait(), second.wait(timeout=60)) == (-signal.SIGKILL, 0)
    Workspace(out).current("records").verify()


def test_a_run_that_stood_still_for_long_says_that_another_took_over_and_publishes_nothing(s3, start) -> None:
    first = start(s3, "--hold", stale=2)
    until(first, "writing")
    first.send_signal(signal.SIGSTOP)
    second = start(s3, stale=2)
    made = until(second, "published ").split()[1]
    before = Workspace(s3).current("records")
    first.send_signal(signal.SIGCONT)
    go_on(first)
    said = until(first, "thaw: ")
    assert "one run at a time may make `records`" in said
    assert "another took over (it is done); run it again to read what that one made" in said
    assert (first.wait(timeout=60), second.wait(timeout=60)) == (2, 0)
    now = Workspace(s3).current("records")
    now.verify()
    assert (now.path, now.manifest.content_digest) == (before.path, made)


def test_forced_runs_take_turns(tmp_path, start) -> None:
    runs = [start(str(tmp_path / "out"), "--force") for _ in range(3)]
    assert len({until(run, "published ") for run in runs}) == 1
    assert [run.wait() for run in runs] == [0, 0, 0]
    folder = tmp_path / "out" / "records"
    assert len(list(folder.glob(f"*/{MANIFEST}"))) == 2  # the last, and the one that it replaced
    Workspace(str(folder.parent)).current("records").verify()
