"""A standalone cluster whose workers cannot do the work is told of in one message, before any work is given to it."""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs import cli
from tests.cluster import HOME, Cluster, free_port, standalone

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


@pytest.fixture(scope="module")
def clean(place, spark) -> Path:
    """A workspace that holds what the quality gate let pass, in a local session."""
    assert cli.main(["check_quality", *place.arguments("local")]) == 0
    return place.folder / "local"


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
def refused(place, clean) -> dict[str, tuple[int, str]]:
    """Mistake -> exit code and message of a job that ran into it. One driver meets all of them, one after another."""
    altered = place.folder / "altered.zip"
    with zipfile.ZipFile(place.package / "thaw.zip") as ours, zipfile.ZipFile(altered, "w") as theirs:
        for name in ours.namelist():
            theirs.writestr(name, ours.read(name) + (b"# since then\n" if name == "pipelines/bits.py" else b""))
    out = place.folder / "refused"
    shutil.copytree(clean / "clean", out / "clean")
    shutil.copy(clean / ".thaw", out)

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
