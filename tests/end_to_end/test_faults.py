"""Every job, disturbed while it works: no reader meets half a dataset, and the next run makes what should be there.

Of each job THAW_KILLS runs are killed (1, or 3 by `make test-faults`), one after the other in one workspace: the first
finds nothing of the job's there, later ones make anew what is published. A kill takes the whole process group or, every
other time, its leader alone. Its moment is drawn by job and number: so many files written, and a moment more. All the
while secrets are where people put some, and nothing that comes of it shows them.
"""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlflow
import psutil
import pyarrow.parquet as pq
import pytest

from jobs import cli
from jobs.launch import ABLATE, JOBS, SEARCH, STAGES, job_dataset
from pipelines.storage import Dataset, Workspace
from schemas.manifest import Manifest, Shard

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KILLS = int(os.environ.get("THAW_KILLS", "1"))
CONFIGS = ("conf/demo.yaml", "tests/end_to_end/small_demo.yaml", "tests/end_to_end/tiny_demo.yaml")
OF_IMAGES = ("write_image_records", "train_classifier", "evaluate_classifier", "classify", SEARCH)
ORDER = tuple(dict.fromkeys((STAGES[0], *OF_IMAGES, *STAGES, "train_content_classifier", ABLATE)))
"""Every job, after those that it reads of, but for one: no classifier of so few images passes the gate of
promote_classifier, which is the code of promote_model."""
TRIED = ORDER if KILLS > 1 else tuple(job for job in ORDER if job not in (SEARCH, ABLATE))
"""Those of one kill do without the two that train many times: each trial is a dataset like a training's."""
SOME = ORDER if KILLS > 1 else ("write_image_records",)
"""What is tried with a full disk and with two runs at once: one job, or all by `make test-faults`."""


def faults_of(job: str) -> list[str]:
    """What happens to it, one after the other. At odd kills the job's dataset is there, and made anew."""
    return [*(f"killed {number}" for number in range(KILLS)), *(["disk", "twice"] if job in SOME else [])]


OPTIONS = {"train_content_classifier": ("--label", "category")}
SECRET = "hush-hush-4711"
IN_ENVIRONMENT = ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def command(job: str, out: Path, *more: str) -> list[str]:
    """The arguments of `thaw`, with a secret where people put some."""
    configs = [word for name in CONFIGS for word in ("--config", str(ROOT / name))]
    store = f"sqlite:///file:{out}/mlflow.db?uri=true&password={SECRET}"
    setting = f"spark.settings={{spark.hadoop.fs.s3a.secret.key: {SECRET}}}"
    configs += ["--set", f"tracking.uri={store}", "--set", setting]
    data = ["--data", Workspace(str(out)).current("demo_data").path] if job == "classify" else []
    return [job, *configs, "--out", str(out), *data, *OPTIONS.get(job, ()), *more]


def made_by(job: str, out: Path, *more: str) -> Dataset:
    """What the job makes in this process, on the session of the tests; what it says goes to a file."""
    said = out.with_name("said.log")
    assert cli_main(command(job, out, *more), said) == 0, said.read_text()[-4000:]
    return Workspace(str(out)).current(job_dataset(job))


def cli_main(arguments: list[str], said: Path) -> int:
    with said.open("a") as file, redirect_stderr(file), redirect_stdout(file):
        return cli.main(arguments)


class JobServer:
    """Starts killable runs."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("THAW_DATA", None)
        self.folder, self._runs = folder, []
        with (folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "job_server.py")],
                env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip

    def start(self, arguments: list[str], **environment: str) -> "Run":
        """A run of `thaw`."""
        log = self.folder / f"{time.monotonic_ns()}.log"
        self._process.stdin.write(json.dumps([str(log), environment, *arguments]) + "\n")
        self._process.stdin.flush()
        while (said := self._process.stdout.readline()) == "ready\n":
            pass
        self._runs.append(Run(int(said), log))
        return self._runs[-1]

    def close(self) -> None:
        """End it, and what a test that failed has left running."""
        for run in self._runs:
            run.kill(whole_group=True)
        self._process.stdin.close()
        self._process.wait(timeout=60)


class Run:
    """A run in a process group of its own."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self._log = pid, log

    @property
    def said(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def is_alive(self) -> bool:
        return psutil.pid_exists(self.pid)

    def wait(self) -> int:
        """Its exit code."""
        with suppress(psutil.NoSuchProcess):
            psutil.Process(self.pid).wait()
        assert self.has_ended(), f"killed by its time limit or by another; it said:\n{self.said}"
        return int(self.said.splitlines()[-1].removeprefix("exit "))

    def has_ended(self) -> bool:
        """Whether it came to its own end: its last line says how."""
        return any(line.startswith("exit ") for line in self.said.splitlines()[-1:])

    def kill(self, whole_group: bool) -> list[psutil.Process]:
        """Kill it; gives all that it had started."""
        try:
            started = psutil.Process(self.pid).children(recursive=True)
            (os.killpg if whole_group else os.kill)(self.pid, signal.SIGKILL)
        except (psutil.NoSuchProcess, ProcessLookupError):
            return []
        return started


@pytest.fixture(scope="module", autouse=True)
def secrets(tmp_path_factory) -> Iterator[Path]:
    """A secret in the environment of this process and those that it starts; they work in a folder of their own.

    MLflow puts artifacts there, where its store is given by an address.
    """
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in IN_ENVIRONMENT:
            patch.setenv(name, SECRET)
        yield folder


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[JobServer]:
    server = JobServer(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


class Undisturbed(dict):
    """Job -> what it makes where nothing disturbs it, made when it is first asked for, after the jobs before it."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def __missing__(self, job: str) -> Dataset:
        if job != TRIED[0]:
            _ = self[TRIED[TRIED.index(job) - 1]]
        self[job] = made_by(job, self._out)
        return self[job]


@pytest.fixture(scope="module")
def undisturbed(spark, one_task, tmp_path_factory) -> Iterator[Undisturbed]:
    yield Undisturbed(tmp_path_factory.mktemp("undisturbed") / "out")
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The workspace in which one job after the other is killed, and done by the next run."""
    return tmp_path_factory.mktemp("disturbed") / "out"


@pytest.mark.parametrize(("job", "fault"), [(job, fault) for job in TRIED for fault in faults_of(job)])
def test_after_a_fault_the_next_run_makes_what_an_undisturbed_one_makes(
    job, fault, server, undisturbed, out, watched, record_property
) -> None:
    wanted, folder = undisturbed[job], out / job_dataset(job)
    for earlier in TRIED[: TRIED.index(job)]:  # where this test runs alone
        if Workspace(str(out)).current(job_dataset(earlier)) is None:
            made_by(earlier, out)
    kind, _, number = fault.partition(" ")
    anew = int(number or 0) % 2 == 1
    if not anew:
        shutil.rmtree(folder, ignore_errors=True)
    case = Case(job, fault, folder, out, server, wanted.manifest, partial(watched, str(out), job_dataset(job)), anew)
    with FAULTS[kind](case):
        made = made_by(job, out, *["--force"] * case.anew)
        made.verify()
    record_property("fault", (job, fault, case.told, len(files_of(wanted.manifest))))
    assert made.manifest.content_digest == wanted.manifest.content_digest
    check_rows(made)
    published = {path.parent.name for path in folder.glob("*/manifest.json")}
    assert left_in(folder) == ({*published, "CURRENT"} if kind != "disk" else set())


def test_no_job_is_left_out() -> None:
    assert set(JOBS) - set(ORDER) == {"promote_classifier"}


def left_in(folder: Path) -> set[str]:
    """What is there besides claims, which the next run takes, and a training's checkpoints, which it goes on from."""
    left = [path for path in folder.glob("*") if path.suffix not in (".claim", ".checkpoints")]
    return {path.name for top in left for path in (top, *top.rglob("*.tmp"))}


@dataclass
class Case:
    """One job and one fault."""

    job: str
    fault: str
    folder: Path
    out: Path
    server: JobServer
    manifest: Manifest
    watched: Callable[[], AbstractContextManager[None]]
    anew: bool
    """Whether the next run has to make again what is published."""
    told: str = ""


@contextmanager
def killed(case: Case) -> Iterator[None]:
    """Killed at a moment of its own; all that it had started ends too."""
    rng = random.Random(f"{case.job} {case.fault}")
    whole_group = bool((ORDER.index(case.job) + int(case.fault.split()[1])) % 2)
    before = {path.name for path in case.folder.glob("*-*")}
    with case.watched():
        for attempt in range(5):  # a run may come to its end before it is killed
            after, pause = rng.randint(0, len(files_of(case.manifest))) >> attempt, rng.uniform(0, 0.2)
            run = case.server.start(command(case.job, case.out, "--force"))
            while run.is_alive() and written(case.folder, before) < after:
                time.sleep(0.002)
            time.sleep(pause)
            started = run.kill(whole_group)
            if not run.has_ended():
                break
            assert run.wait() == 0, run.said
            before, case.anew = {path.name for path in case.folder.glob("*-*")}, True
        else:
            pytest.fail(f"five runs of {case.job} ended before they were killed")
        case.told = f"{after} ({'group' if whole_group else 'leader'})"
        assert psutil.wait_procs(started, timeout=60)[1] == []
        yield


@contextmanager
def twice(case: Case) -> Iterator[None]:
    """Two runs at once: both end well."""
    with case.watched():
        runs = [case.server.start(command(case.job, case.out)) for _ in range(2)]
        assert [run.wait() for run in runs] == [0, 0], [run.said for run in runs]
        yield


@contextmanager
def disk(case: Case) -> Iterator[None]:
    """A disk that is read-only, then full, each of which is one message, and then has room."""
    case.folder.mkdir()
    size = max(sum(shard.bytes for shard in files_of(case.manifest)) // 2, 4096)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(case.folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (it takes root)")
    said = case.out.with_name("said.log")
    try:
        for option, complaint in (("ro", "Read-only file system"), ("rw", "No space left on device")):
            subprocess.run(["mount", "-o", f"remount,{option}", str(case.folder)], check=True)
            heard = said.stat().st_size
            assert cli_main(command(case.job, case.out), said) == 2, said.read_text()[heard:]
            last = said.read_text()[heard:].splitlines()[-1]
            assert last.startswith("thaw: ") and complaint in last and last.endswith("the same command resumes"), last
            assert left_in(case.folder) == set()
        subprocess.run(["mount", "-o", "remount,size=64m", str(case.folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(case.folder)], check=True)


FAULTS = {"killed": killed, "twice": twice, "disk": disk}


def files_of(manifest: Manifest) -> list[Shard]:
    return [shard for entry in manifest.tables.values() for shard in entry.shards]


def written(folder: Path, before: set[str]) -> int:
    """Files in version folders that were not there before; -1 where there is no such folder yet."""
    new = [path for path in folder.glob("*-*") if path.name not in before]
    # os.walk passes over what is removed while it looks.
    return sum(len(files) for path in new for _, _, files in os.walk(path)) if new else -1


def check_rows(made: Dataset) -> None:
    """Rows in are rows out, quarantined, duplicates and what else a job counts."""
    rows = made.manifest.facts.get("rows")
    if rows:
        assert rows["in"] == sum(count for name, count in rows.items() if name != "in"), rows


@pytest.mark.skipif(KILLS == 1, reason="a whole chain more: make test-faults")
def test_thaw_run_killed_midway_and_gone_on_with_under_another_clock_makes_the_same(
    server, undisturbed, tmp_path
) -> None:
    out = tmp_path / "out"
    chain = command("run", out, "--until", "write_records")
    first = server.start(chain)
    while first.is_alive() and not list(out.glob("clean/*-*")):
        time.sleep(0.02)
    time.sleep(0.5)
    first.kill(whole_group=True)
    assert Workspace(str(out)).current("clean") is None
    second = server.start(chain, TZ="Pacific/Auckland")
    assert second.wait() == 0, second.said
    assert second.said.count(" unchanged ") == 4, second.said  # the demo and its pictures were there
    for job in STAGES[: STAGES.index("write_records") + 1]:
        made = Workspace(str(out)).current(job_dataset(job))
        assert made.manifest.content_digest == undisturbed[job].manifest.content_digest, job


def test_a_secret_is_in_no_file_that_any_job_left_and_in_no_line_that_it_said(
    secrets, server, undisturbed, out
) -> None:
    _ = undisturbed[TRIED[-1]]  # where this test runs alone
    run = server.start(command(TRIED[0], out))
    assert run.wait() == 0, run.said
    folders = {Path(dataset.path).parents[2] for dataset in undisturbed.values()} | {out.parent, server.folder, secrets}
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert {"mlflow.db", "said.log", "manifest.json", "served_model.py", "server.log"} <= {path.name for path in files}
    assert [str(path) for path in files if SECRET.encode() in content(path)] == []


def content(path: Path) -> bytes:
    """A file's bytes, and those of what is packed in it."""
    if path.suffix == ".parquet":
        return repr(pq.read_table(path).to_pydict()).encode()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            return b"".join(packed.read(name) for name in packed.namelist())
    written = path.read_bytes()
    return gzip.decompress(written) if written.startswith(b"\x1f\x8b") else written
