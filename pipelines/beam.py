"""How a Beam pipeline is opened: the runner, its workers, and its errors as messages. [beam]

What it does is left to its steps.
"""

import io
import json
import logging
import re
import shlex
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, cast

import apache_beam as beam
import fsspec
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipelines import errors
from pipelines.config import BeamOptions
from pipelines.errors import ConfigError, ThawError
from pipelines.storage import whole_file

# Beam's own DirectRunner would first try to fetch the binary of another one.
_LOCAL = ("local", "direct", "directrunner", "switchingdirectrunner", "fnapi", "fnapirunner")
_WORKER = """
import logging, os, sys, threading, time
logging.disable(logging.ERROR)
sys.stderr = open(os.devnull, "w")
def watch():
    while os.path.exists(LIFELINE):
        time.sleep(0.2)
    os._exit(0)
threading.Thread(target=watch, daemon=True).start()
from apache_beam.runners.worker.sdk_worker_main import main
main(sys.argv)
"""
"""Beam's own command for a worker, without its log: options do not reach it, and errors reach us as exceptions. It ends
when the file LIFELINE is gone: where one worker dies, the runner may wait for others without telling them to end."""
_CHANNELS = ("beam_control_read", "read_grpc_client_inputs")
"""Threads that complain of a dead worker before it is told that it died."""
_OWN_ERROR = re.compile(r"^(?:pipelines\.errors\.)?(\w+Error): (.*?)(?: \[while running '[^']*'\].*)?$", re.MULTILINE)


def open_pipeline(options: BeamOptions) -> beam.Pipeline:
    """A pipeline to be filled in a `with` block, at whose end it runs; elements should be blocks of rows, never rows.

    Raises ConfigError where there is no such runner; leaving the block raises it where the runner cannot start, and
    whatever error of ours a worker met as that error.
    """
    local = options.runner.lower() in _LOCAL
    chosen: dict[str, Any] = {"direct_num_workers": options.workers} if local else {"runner": options.runner}
    if local:
        # An error reaches us as an exception, with all it says; the log would say it four times.
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):  # where argparse would print its usage
            parsed = PipelineOptions(_flags(chosen | options.options))
            parsed.get_all_options()
        lifeline = Path(tempfile.gettempdir()) / f"thaw-beam-{uuid.uuid4().hex}"
        return _Pipeline(options.runner, _local_runner(options.workers, lifeline) if local else None, parsed, lifeline)
    except (ValueError, ImportError, AttributeError) as error:
        known = ", ".join(name for name in StandardOptions.KNOWN_RUNNER_NAMES if name.lower() not in _LOCAL)
        raise ConfigError(
            f"beam.runner must be `local` or a runner that Beam has here ({known}), got {options.runner!r} "
            f"({_first_line(error)}); correct beam.runner or --runner, or install what it needs"
        ) from None
    except SystemExit:
        raise ConfigError(
            f"beam.options must be pipeline options with values of their kinds, got {options.options}; correct them"
        ) from None


class Keep(beam.PTransform):  # type: ignore[misc]
    """Write all elements, JSON values or pydantic models, to the one file `path`, for `take` to read as JSON."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def expand(self, values: beam.PCollection) -> beam.PCollection:
        """PCollection[JSON value or model] -> one path."""
        # list: one; str: one.
        return values | "List" >> beam.combiners.ToList() | "Write" >> beam.Map(_keep, self._path)


def take(path: str) -> Any:
    """What `Keep` kept, when the pipeline has run."""
    fs, file = fsspec.core.url_to_fs(path)
    return json.loads(fs.cat_file(file))


def _local_runner(workers: int, lifeline: Path) -> FnApiRunner:
    """Beam's Python runner: one worker in this process, or several in processes of their own, which log nothing."""
    if workers == 1:
        return FnApiRunner()
    command = shlex.join([sys.executable, "-c", _WORKER.replace("LIFELINE", repr(str(lifeline)))])
    return FnApiRunner(SubprocessSDKEnvironment.from_command_string(command))


class _WorkerDied(BaseException):
    """Raised in the main thread, wherever it waits."""


class _Pipeline(beam.Pipeline):  # type: ignore[misc]
    """A pipeline whose errors name the runner, or are those of ours that a worker met."""

    def __init__(self, name: str, local: FnApiRunner | None, options: PipelineOptions, lifeline: Path) -> None:
        self._name, self._local, self._lifeline = name, local is not None, lifeline
        super().__init__(local, options)

    def run(self, test_runner_api: Any = "AUTO") -> Any:
        """Run it to its end."""
        deaths: list[str] = []
        running = None
        self._lifeline.touch()
        try:
            with _told_of_dead_workers(deaths, self._lifeline):
                running = super().run(test_runner_api)
                if not self._local:
                    running.wait_until_finish()
                return running
        except _WorkerDied:
            raise ThawError(
                f"every Beam worker must live until the pipeline has run, one died ({deaths[0]}), most likely for want "
                "of memory; set beam.workers lower, or more shards (records.num_shards)"
            ) from None
        except Exception as error:
            own = _own_error(f"{type(error).__name__}: {error}")
            if own is not None:
                raise own from error
            if self._local:
                raise
            if running is not None:
                raise ThawError(
                    f"the pipeline must run to its end, on the Beam runner {self._name} it failed "
                    f"({_first_line(error)}); see the runner's own log"
                ) from error
            raise ConfigError(
                f"the Beam runner {self._name} must be able to start, it could not ({_first_line(error)}); check "
                "beam.options (its address, its jar: a runner of Java fetches one from the internet unless one is "
                "named), or set beam.runner to `local`"
            ) from error
        finally:
            self._lifeline.unlink(missing_ok=True)


@contextmanager
def _told_of_dead_workers(deaths: list[str], lifeline: Path) -> Iterator[None]:
    """Raises _WorkerDied in the main thread where a worker process dies: the local runner would wait for it forever.

    In another thread than the main one, it does wait. The signal is one of our own: an interrupt is ignored by
    processes in the background, and handled by Spark where it runs.
    """

    def interrupt(*_: Any) -> None:
        raise _WorkerDied

    before, main = threading.excepthook, threading.current_thread() is threading.main_thread()

    def hook(arguments: Any) -> None:
        name = arguments.thread.name if arguments.thread else ""
        if main and name == "run_worker":
            deaths.append(str(arguments.exc_value))
            lifeline.unlink(missing_ok=True)
            signal.pthread_kill(cast(int, threading.main_thread().ident), signal.SIGUSR1)
        elif name not in _CHANNELS:
            before(arguments)

    threading.excepthook = hook
    handler = signal.signal(signal.SIGUSR1, interrupt) if main else None
    try:
        yield
    finally:
        threading.excepthook = before
        if main:
            # A worker may die this late, and the system's own answer to the signal is to end the process.
            signal.signal(signal.SIGUSR1, handler if callable(handler) else signal.SIG_IGN)


def _own_error(text: str) -> ThawError | None:
    """The error of ours that a worker met, out of what it sent, if it was one."""
    for name, message in reversed(_OWN_ERROR.findall(text)):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, ThawError):
            return kind(message)
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _flags(options: dict[str, Any]) -> list[str]:
    """Options as on a command line: true is the flag alone, false is left out, a list repeats it.

    >>> _flags({"runner": "FlinkRunner", "streaming": False, "experiments": ["a", "b"]})
    ['--runner=FlinkRunner', '--experiments=a', '--experiments=b']
    """
    flags: list[str] = []
    for name, value in options.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            if one is not False and one is not None:
                flags.append(f"--{name}" if one is True else f"--{name}={one}")
    return flags


def _keep(values: list[Any], path: str) -> str:
    with whole_file(path) as file:
        file.write(json.dumps(values, default=lambda model: model.model_dump(mode="json")).encode())
    return path
