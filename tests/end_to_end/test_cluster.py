"""On a standalone cluster of two workers that have Thaw by the package alone: the datasets of a local session.

`make package` makes the package, spark-submit gives it out. `make test` runs all Spark jobs in one application, and
kills a worker in the midst of it; with THAW_KILLS set each job is an application of its own too.
"""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs import cli
from jobs.launch import SPARK_JOBS, job_dataset
from pipelines.storage import Workspace
from tests.cluster import HOME, Cluster, awaited, free_port, said_by, standalone, strike

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
name: clustered
seed: 7
source:
  interactions:
    - path: ratings.csv
      user_id: user
      item_id: item
      event_time: {column: time, unit: s}
      action_value: rating
      weight: rating
  items: [{path: items.csv, id: item, columns: {genre: {kind: category}}}]
quality: {actions: [rating]}
labels: {rule: threshold, positive_actions: [rating], threshold: 4}
split: {validation_start: "2023-11-20", test_start: "2023-11-22"}
preferences: {windows: [lifetime], entities: [user, item], statistics: [{name: event, kind: count}], recent: []}
catalogue: {rows: 0}
factors: {rank: 2, iterations: 1}
audit: {sample: 3}
records: {num_shards: 2}
storage: {parquet_files: 2}
training: {losses: {catalogue_negatives: 0}}
spark: {driver_memory: 1g, shuffle_partitions: 2}
"""
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:MetaspaceSize=256m -XX:NewSize=128m"
SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.executor.memory": "700m",
    "spark.driver.extraJavaOptions": QUICK_JAVA,
    "spark.executor.extraJavaOptions": QUICK_JAVA,
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.log.level": "ERROR",
}
"""What a cluster's own settings would say: here, that jobs are short."""


@dataclass(frozen=True)
class Place:
    """A cluster, and what its users have: raw data with a configuration, the package, and a Python without Thaw."""

    cluster: Cluster
    folder: Path
    package: Path
    python: Path

    def arguments(self, out: str) -> list[str]:
        """Of any job."""
        return ["--config", f"{self.folder}/small.yaml", "--data", str(self.folder), "--out", f"{self.folder}/{out}"]

    def environment(self, **more: str) -> dict[str, str]:
        """Of a driver that has Thaw by the package, or not at all."""
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SPARK_CONF_DIR", "THAW_DATA")}
        python = str(self.python)
        return kept | {"SPARK_HOME": str(HOME), "PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python} | more

    def submitted(self, *job: str, settings: dict[str, str]) -> subprocess.Popen:
        """A job by spark-submit, as docs/cluster.md has it."""
        given = [part for key, value in (SETTINGS | settings).items() for part in ("--conf", f"{key}={value}")]
        package = ["--py-files", f"{self.package}/thaw.zip", f"{self.package}/thaw.py"]
        command = [HOME / "bin" / "spark-submit", "--master", self.cluster.master, *given, *package, *job]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.environment(), cwd=self.folder, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def digests(self, out: str) -> dict[str, str]:
        """Job -> content digest of what it published."""
        workspace = Workspace(f"{self.folder}/{out}")
        found = {name: workspace.current(job_dataset(name)) for name in SPARK_JOBS}
        return {name: dataset.manifest.content_digest for name, dataset in found.items() if dataset}


def write_source(folder: Path) -> None:
    """Ratings, some of which the quality gate sorts out, and items."""
    draw = random.Random(7)
    rows = [[f"u{draw.randrange(12)}", f"i{draw.randrange(16)}", 1_699_900_000 + n * 2500, draw.randrange(1, 6)]
            for n in range(400)]  # fmt: skip
    with (folder / "ratings.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["user", "item", "time", "rating"], *rows, ["", "i1", 1_699_900_001, 3]])
    with (folder / "items.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["item", "genre"], *([f"i{n}", f"g{n % 4}"] for n in range(16))])
    (folder / "small.yaml").write_text(CONFIG)


def make_package(folder: Path) -> Path:
    """`make package`, of a copy of the sources."""
    for name in ("schemas", "pipelines", "jobs", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = ["make", "-o", ".venv/.installed", "package", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / "dist"


def bare_python(folder: Path) -> Path:
    """An interpreter with the packages that Thaw needs, and without Thaw."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # The .pth files that lie there, such as Thaw's own, are not read.
    (packages / "packages.pth").write_text(f"{HOME.parent}\n")
    python = folder / "bin" / "python"
    looked = [python, "-I", "-c", "import pyspark, jobs"]
    assert "No module named 'jobs'" in subprocess.run(looked, capture_output=True, text=True, check=False).stderr
    return python


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("cluster")
    write_source(folder)
    (folder / "source").mkdir()
    with standalone(folder) as cluster:
        yield Place(cluster, folder, make_package(folder / "source"), bare_python(folder / "python"))


@dataclass(frozen=True)
class Struck:
    """A run that lost a worker: which executor was on it, the exit code, what was said, what Spark noted down."""

    executor: str
    code: int
    said: str
    events: list[dict]


@pytest.fixture(scope="module")
def runs(place, spark) -> tuple[dict[str, str], Struck]:
    """What each job made in a local session, and meanwhile a run of all of them on the cluster."""
    with ThreadPoolExecutor(1) as beside:
        struck = beside.submit(run_and_strike, place)
        for name in SPARK_JOBS:
            assert cli.main([name, *place.arguments("local")]) == 0
        return place.digests("local"), struck.result()


@pytest.fixture(scope="module")
def local(runs) -> dict[str, str]:
    """Job -> content digest of what it makes in a local session."""
    return runs[0]


@pytest.fixture(scope="module")
def struck(runs) -> Struck:
    return runs[1]


REFUSED = """
import contextlib, io, json, os, sys
from jobs import cli
for name, python, arguments in json.load(sys.stdin):
    os.environ["PYSPARK_PYTHON"] = python
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = cli.main(arguments)
    print("CASE", json.dumps([name, code, said.getvalue()]))
"""


@pytest.fixture(scope="module")
def refused(place, local) -> dict[str, tuple[int, str]]:
    """Mistake -> exit code and message of a job that ran into it. One driver meets all of them, one after another."""
    altered = place.folder / "altered.zip"
    with zipfile.ZipFile(place.package / "thaw.zip") as ours, zipfile.ZipFile(altered, "w") as theirs:
        for name in ours.namelist():
            theirs.writestr(name, ours.read(name) + (b"# since then\n" if name == "pipelines/bits.py" else b""))
    out = place.folder / "refused"
    shutil.copytree(place.folder / "local" / "clean", out / "clean")
    shutil.copy(place.folder / "local" / ".thaw", out)

    def case(
        name: str, python: Path = place.python, master: str = place.cluster.master, **more: object
    ) -> list[object]:
        settings = SETTINGS | {key: str(value) for key, value in more.pop("settings", {}).items()}
        options = {"master": master, "settings": settings, **more}
        values = [part for key, value in options.items() for part in ("--set", f"spark.{key}={json.dumps(value)}")]
        return [name, str(python), ["compute_preferences", *place.arguments("refused"), *values]]

    cases = [
        case("no master", master=f"spark://127.0.0.1:{free_port()}", connect_timeout_s=0.1),
        case("no Thaw"),
        case("another Thaw", settings={"spark.executorEnv.PYTHONPATH": altered}),
        case("no Python", python=Path("/no/such/python")),
        case("no room", settings={"spark.executor.memory": "64g"}, executors_timeout_s=3),
    ]
    done = subprocess.run(
        [place.python, "-c", REFUSED], env=place.environment(PYTHONPATH=f"{place.package}/thaw.zip"), cwd=place.folder,
        input=json.dumps(cases), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("CASE ")]
    assert not list(out.glob("preferences/*/*")), "something was half-made"
    return {name: (code, said) for name, code, said in told}


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("no master", "thaw: the Spark master must answer within 0.1 s, spark://127.0.0.1:"),
        (
            "no Thaw",
            "thaw: every worker must be able to import Thaw, one found no `pipelines`; give spark-submit `--py-fi",
        ),
        ("another Thaw", "thaw: every worker must run the Thaw of the driver ("),
        (
            "no Python",
            "thaw: every worker must have the Python that PYSPARK_PYTHON names, one has no /no/such/python; ",
        ),
        ("no room", "thaw: the cluster must give an executor within 3 s, spark://127.0.0.1:"),
    ],
)
def test_a_cluster_that_cannot_do_the_work_is_one_message_and_exit_code_2(refused, mistake, message) -> None:
    code, said = refused[mistake]
    assert said.startswith(message)
    assert (code, len(said.splitlines())) == (2, 1)


@pytest.mark.skipif("THAW_KILLS" not in os.environ, reason="takes two minutes; `make test-faults` has them")
def test_each_job_is_an_application_of_its_own_and_makes_what_a_local_session_makes(place, local) -> None:
    for name in SPARK_JOBS:
        said, _ = (job := place.submitted(name, *place.arguments("alone"), settings={})).communicate(timeout=300)
        assert job.returncode == 0, said[-3000:]
    assert place.digests("alone") == local


def run_and_strike(place: Place) -> Struck:
    """All Spark jobs as one application, of which a worker is killed while it runs tasks of build_examples."""
    events, port = place.folder / "events", free_port()
    events.mkdir()
    settings = {
        "spark.ui.port": port,
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events,
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
    }
    chain = ["run", "--until", "write_records", *place.arguments("clustered")]
    run = place.submitted(*chain, settings={key: str(value) for key, value in settings.items()})

    def ended() -> bool:
        return run.poll() is not None

    with ThreadPoolExecutor(1) as reading:
        said = reading.submit(run.stdout.read)
        try:
            api = f"http://127.0.0.1:{port}/api/v1/applications"
            application = awaited(lambda: "" if ended() else f"{api}/{said_by(api)[0]['id']}", "driver", 600)
            staged = place.folder / "clustered" / "examples"
            awaited(lambda: staged.exists() or ended() or None, "begin of build_examples", 600)
            executor = "" if ended() else strike(place.cluster, place.cluster.workers[0], application)
            code = run.wait(timeout=600)
        finally:
            run.kill()
    (log,) = [path for path in events.iterdir() if not path.name.startswith(".")]
    return Struck(executor, code, said.result(), [json.loads(line) for line in log.read_text().splitlines()])


def test_all_jobs_end_with_the_digests_of_a_local_session_though_a_worker_is_killed_meanwhile(
    place, local, struck
) -> None:
    assert struck.code == 0, struck.said[-3000:]
    assert len(local) == len(SPARK_JOBS)
    assert place.digests("clustered") == local


def test_the_worker_died_while_tasks_ran_on_it_and_the_other_did_them_again(struck) -> None:
    ended = [event for event in struck.events if event["Event"] == "SparkListenerTaskEnd"]
    lost = {
        (event["Stage ID"], event["Task Info"]["Index"])
        for event in ended
        if event["Task End Reason"]["Reason"] == "ExecutorLostFailure"
        and event["Task Info"]["Executor ID"] == struck.executor
    }
    again = {
        (event["Stage ID"], event["Task Info"]["Index"])
        for event in ended
        if event["Task End Reason"]["Reason"] == "Success" and event["Task Info"]["Executor ID"] != struck.executor
    }
    assert lost
    assert lost <= again
