"""How a training job becomes several processes: started here, or by a cluster, which runs the same command once a host.

Only process 0 claims, publishes, registers and prints; the others train their part of every batch. What they say to
each other is `rendezvous`'s, what they compute together `distribution`'s.
"""

import argparse
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from jobs.launch import ROOT, Context, Job, open_parents, relevant, say
from pipelines.code import code_version
from pipelines.config import Config
from pipelines.errors import ConfigError, ThawError
from pipelines.storage import Dataset, Workspace
from pipelines.training import rendezvous
from pipelines.training.distribution import Devices, check_asked, check_divides, open_devices
from pipelines.training.rendezvous import Meeting, Place
from schemas.manifest import digest

WAIT_S = 300.0
"""For all processes to come together: pods and queues take their time."""
ENDED_S = 30
"""For the processes that were started here to end by themselves."""
LOOPBACK = "127.0.0.1"
_SLURM_PORT, _SLURM_PORTS = 61_440, 4096


@dataclass(frozen=True)
class Asked:
    """What flags and environment say."""

    processes: int = 1
    index: int | None = None
    """None: there is one process, or the others are to be started here."""
    coordinator: str = ""
    """HOST:PORT where process 0 listens."""
    devices: int | None = None
    """Of each process; None: one."""
    wait_s: float = WAIT_S
    started_here: bool = False

    @property
    def place(self) -> Place:
        """Among several."""
        host, _, port = self.coordinator.rpartition(":")
        return Place(host, int(port), self.processes, self.index or 0, self.wait_s)


@dataclass
class _Now:
    """What this process was asked for, from its arguments until its `run`: a process is of one training."""

    asked: Asked = field(default_factory=Asked)
    ear: socket.socket | None = None
    """Process 0's, where others were started by a cluster: they may come before there is something to do."""
    command: tuple[str, ...] = ()
    """What starts another process here, but for its number."""
    meeting: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """Process 0's with the others, from training until its command is done."""


_now = _Now()


@contextmanager
def around() -> Iterator[None]:
    """A job's `around`: at its end the others end too, let go or told what went wrong.

    They wait until the model is published and registered: one that is started again, as a cluster does with what is
    lost, finds them all started again.
    """
    with contextlib.ExitStack() as _now.meeting:
        yield
        if _now.ear is not None:  # there was nothing to do
            rendezvous.dismiss(_now.asked.place, _now.ear)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of jobs that train."""
    group = parser.add_argument_group("several processes and devices (docs/distributed.md)")
    group.add_argument(
        "--processes", type=int, metavar="N", help="share each batch among N processes: started here, or"
    )
    group.add_argument(
        "--process-index", type=int, metavar="I", help="on a cluster, where this command runs N times: which"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="on a cluster, where process 0 listens")
    group.add_argument("--devices", type=int, metavar="D", help="devices of each process, on JAX (default: 1)")
    wait = f"how long processes have to come together (default: {WAIT_S:g})"
    group.add_argument("--join-timeout-s", type=float, metavar="S", help=wait)
    group.add_argument("--started-here", action="store_true", help=argparse.SUPPRESS)


def asked_for(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Asked:
    """Flags; what they leave out, the variables of Thaw, Kubernetes, TF_CONFIG or Slurm say.

    Raises ConfigError where numbers or addresses cannot be.
    """
    given = _of_environment(environ)
    processes = _first(arguments.processes, given.processes)
    index = _first(arguments.process_index, given.index)
    coordinator = arguments.coordinator or (given.coordinator if index is not None else "")
    if processes < 1:
        raise ConfigError(f"--processes must be at least 1, got {processes}; leave it out for one process")
    if index is not None and not 0 <= index < processes:
        raise ConfigError(
            f"--process-index must be from 0 to {processes - 1}, one less than --processes, got {index}; count from 0"
        )
    if processes > 1 and (index is None) != (not coordinator):
        lacking = "--process-index" if index is None else "--coordinator"
        raise ConfigError(
            "of processes that a cluster starts each must have --process-index and --coordinator, got no "
            f"{lacking}; add it, or give neither, and all processes are started here"
        )
    address = re.fullmatch(r"[^\s:]+:([0-9]{1,5})", coordinator)
    if coordinator and (address is None or not 0 < int(address[1]) < 1 << 16):
        raise ConfigError(
            f"--coordinator must be HOST:PORT, got {coordinator!r}; name where process 0 listens: a name or an IPv4 "
            "address, and a port from 1 to 65535"
        )
    wait_s = _first(arguments.join_timeout_s, WAIT_S)
    if not wait_s > 0:
        raise ConfigError(f"--join-timeout-s must be positive, got {wait_s:g}; leave it out for {WAIT_S:g}")
    return Asked(processes, index, coordinator, arguments.devices, wait_s, arguments.started_here)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _of_environment(environ: Mapping[str, str]) -> Asked:
    """What a cluster sets, each kind as a whole; one process where nothing does."""
    if "THAW_PROCESSES" in environ:
        index = environ.get("THAW_PROCESS_INDEX", environ.get("JOB_COMPLETION_INDEX"))
        processes = _number("THAW_PROCESSES", environ["THAW_PROCESSES"])
        numbered = None if index is None else _number("THAW_PROCESS_INDEX", index)
        return Asked(processes, numbered, environ.get("THAW_COORDINATOR", ""))
    if "TF_CONFIG" in environ:
        try:
            told = json.loads(environ["TF_CONFIG"])
            kinds, workers, task = sorted(told["cluster"]), list(told["cluster"]["worker"]), told["task"]
            if kinds != ["worker"] or task["type"] != "worker":
                raise ConfigError(
                    f"TF_CONFIG must name workers alone, got {', '.join({*kinds, task['type']} - {'worker'})}; start "
                    "every process as a worker, the first of which leads and evaluates, or unset it"
                )
            if len(workers) > 1:
                return Asked(len(workers), int(task["index"]), str(workers[0]))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"TF_CONFIG must be JSON with cluster.worker and task, got {environ['TF_CONFIG']!r}; correct it, or "
                "unset it"
            ) from error
    # Set for the tasks of `srun`, not for the script around them.
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks != "1" and "SLURM_PROCID" in environ:
        port = _SLURM_PORT + int(environ.get("SLURM_JOB_ID", "0")) % _SLURM_PORTS
        hosts = environ.get("SLURM_STEP_NODELIST", "")
        return Asked(
            _number("SLURM_STEP_NUM_TASKS", tasks),
            _number("SLURM_PROCID", environ["SLURM_PROCID"]),
            (f"{first_host(hosts)}:{port}"),
        )
    return Asked()


def first_host(nodes: str) -> str:
    """Of a list as Slurm writes it: `node[003-007,9],other` -> `node003`."""
    found = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", nodes)
    return (found[1] + (found[2] or "")) if found else ""


def _number(name: str, value: str) -> int:
    if not value.isdigit():
        raise ConfigError(f"{name} must be a whole number, got {value!r}; correct or unset it")
    return int(value)


def instead(
    job: Job,
    arguments: argparse.Namespace,
    config: Config,
    workspace: Workspace,
    train: Callable[[Context, Devices], Any],
) -> bool:
    """Note what is asked for; of processes but the first, all that they do. A job's `instead`."""
    _now.asked = asked = asked_for(arguments, os.environ)
    _now.command = _command(job, arguments)
    if asked.processes == 1:
        return False
    if not asked.index:
        if asked.index is not None:
            _now.ear = rendezvous.listen(asked.place)
        return False
    _other(job, asked, config, workspace, train)
    return True


def together(job: Job, context: Context, shared: Mapping[str, int]) -> Devices:
    """The devices of this training, in process 0: from now until the end of `around` the other processes are there.

    `shared`: sizes that are divided among them, name -> rows. Raises ConfigError where they cannot be; ConfigError or
    LostError where the processes do not come together.
    """
    asked, ear = _now.asked, _now.ear
    check_asked(asked.devices)
    for name, rows in shared.items():
        check_divides(asked.processes * (asked.devices or 1), name, rows)
    if asked.processes == 1:
        return open_devices(None, asked.devices)
    same = _same(job, context.config, context.parents)
    if ear is not None:
        _now.ear = None
        return _now.meeting.enter_context(
            _held(rendezvous.gather(asked.place, ear, same, key=context.key), asked),
        )
    ear = rendezvous.listen(Place(LOOPBACK, 0, asked.processes, 0, asked.wait_s))
    port = ear.getsockname()[1]
    place = Place(LOOPBACK, port, asked.processes, 0, asked.wait_s)
    last_words = _now.meeting.enter_context(_others(place))
    return _now.meeting.enter_context(
        _held(rendezvous.gather(place, ear, same, last_words, context.key), asked, 0),
    )


@contextmanager
def _held(meeting: Meeting, asked: Asked, local_index: int | None = None) -> Iterator[Devices]:
    """The backend of a process that has met the others; at the end it ends with them, or tells them what went wrong."""
    try:
        devices = open_devices(meeting, asked.devices, local_index)
        yield devices
    except BaseException as error:
        meeting.fail(error)
        raise
    meeting.end()
    devices.close()


@contextmanager
def _others(place: Place) -> Iterator[Callable[[int], str]]:
    """Processes 1, 2, … on this machine; within, (index) -> what the last words were of one that has ended."""
    with tempfile.TemporaryDirectory(prefix="thaw-processes-") as folder:
        logs = {index: Path(folder) / f"{index}.log" for index in range(1, place.processes)}
        started: dict[int, subprocess.Popen[bytes]] = {}

        def last_words(index: int) -> str:
            if index not in started or started[index].poll() is None:
                return ""
            lines = logs[index].read_text(errors="replace").strip().splitlines()
            said = [line.removeprefix("thaw: ") for line in lines if line.startswith("thaw: ")] or lines[-1:]
            return f"process {index} ended with exit code {started[index].returncode}: {' '.join(said[-1:])}"

        try:
            for index, log in logs.items():
                where = ["--coordinator", f"{place.host}:{place.port}", "--process-index", str(index), "--started-here"]
                path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
                with log.open("wb") as file:
                    started[index] = subprocess.Popen(
                        [*_now.command, *where],
                        stdin=subprocess.DEVNULL,
                        stdout=file,
                        stderr=file,
                        start_new_session=True,  # Ctrl-C is for this process, which ends the others
                        env={**os.environ, "PYTHONPATH": path},
                    )
            yield last_words
        finally:
            # One that has met this process ignores it, and has been told to end; another has nobody to wait for.
            for process in started.values():
                process.terminate()
            until = time.monotonic() + ENDED_S
            for process in started.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(until - time.monotonic(), 0))
                process.kill()
                process.wait()


def _other(
    job: Job, asked: Asked, config: Config, workspace: Workspace, train: Callable[[Context, Devices], Any]
) -> None:
    """A process but the first: it trains its part, and says nothing but what went wrong."""
    needed = job.needs(config) if job.needs else ()
    parents = open_parents(job, (*job.parents, *needed), config, workspace)
    config = job.pinned(config, workspace) if job.pinned else config
    meeting = rendezvous.join(asked.place, _same(job, config, parents))
    if meeting is None:
        return
    # Process 0 saves where it can be resumed, and ends the others.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    code = 0
    try:
        with (
            contextlib.redirect_stderr(io.StringIO()),
            _held(meeting, asked, asked.index if asked.started_here else None) as devices,
        ):
            train(Context(config, workspace, None, parents, "", str(meeting.told["key"])), devices)
    except ThawError as error:
        say(f"thaw: {error}")
        code = error.exit_code
    # Backends wait for each other once more when Python ends; whoever is left has something else to do.
    sys.stdout.flush()
    os._exit(code)


def _same(job: Job, config: Config, parents: Mapping[str, Dataset]) -> dict[str, str]:
    """What all processes must have alike."""
    return {
        "code version": code_version(),
        "backend (KERAS_BACKEND)": str(keras.backend.backend()),
        "configuration": digest([config.seed, relevant(config, job.sections)])[:12],
        "data": digest({name: parent.manifest.content_digest for name, parent in parents.items()})[:12],
    }


def _command(job: Job, arguments: argparse.Namespace) -> tuple[str, ...]:
    """The command that was given, but for the process's number."""
    flags = [*(("--config", file) for file in arguments.config or ()), ("--out", arguments.out)]
    flags += [("--set", one) for one in arguments.set] + [("--data", arguments.data)] * bool(arguments.data)
    flags += [("--processes", str(_now.asked.processes)), ("--join-timeout-s", f"{_now.asked.wait_s:g}")]
    if arguments.devices is not None:
        flags.append(("--devices", str(arguments.devices)))
    return (sys.executable, "-m", "jobs.cli", job.name, *(word for flag in flags for word in flag))
