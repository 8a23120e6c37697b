"""A cluster that cannot do the work is told of in one message, before any work is given to it."""

import os
import re
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark.errors import PySparkRuntimeError, PythonException

from jobs.launch import guarded
from pipelines.cluster import check_master, cluster_fault, require_code
from pipelines.code import PACKAGES, code_version
from pipelines.errors import ConfigError
from pipelines.spark import check_java
from tests.cluster import free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("master", ["local", "local[2]", "local[*]", "local[4,2]", "yarn", "k8s://https://host:6443"])
def test_masters_that_spark_asks_itself_are_left_to_it(master) -> None:
    check_master(master, 0.1)


@pytest.mark.parametrize(
    "master",
    ["", "local[0]", "local[two]", "host:7077", "http://host:8080", "spark://host", "spark://:7077", "mesos://h:1"],
)
def test_what_is_no_master_is_refused_with_the_forms_there_are(master) -> None:
    with pytest.raises(
        ConfigError, match=r"^`spark.master` must be local\[N\], spark://HOST:PORT, .*; correct spark.m"
    ):
        check_master(master, 0.1)


def test_a_master_that_does_not_answer_is_told_within_the_time_given() -> None:
    with pytest.raises(ConfigError, match=r"must answer within 0.1 s, spark://127.0.0.1:\d+ did not \(.*refused\)"):
        check_master(f"spark://127.0.0.1:{free_port()}", 0.1)


def test_of_several_masters_one_that_answers_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as standby:
        check_master(f"spark://127.0.0.1:{free_port()},127.0.0.1:{standby.getsockname()[1]}", 5)


def fails(with_error: Exception) -> int:
    raise with_error


OTHER_CODE = (
    f"pipelines.errors.ConfigError: every worker must run the Thaw of the driver, {'0' * 16}; host has {'1' * 16}"
)
OTHER_PYTHON = PySparkRuntimeError(
    errorClass="PYTHON_VERSION_MISMATCH", messageParameters={"worker_version": "3.12", "driver_version": "3.11"}
)


@pytest.mark.parametrize(
    ("last_line", "message"),
    [
        (
            OTHER_CODE,
            rf"every worker must run the Thaw of the driver \({code_version()}\), host has 1{{16}}; give spark-s",
        ),
        (
            "AttributeError: Can't get attribute 'x' on <module 'pipelines.bits'>",
            "every worker must run the Thaw of the",
        ),
        ("ModuleNotFoundError: No module named 'pipelines.cluster'", "every worker must run the Thaw of the driver"),
        ("ModuleNotFoundError: No module named 'pipelines'", "every worker must be able to import Thaw"),
        (
            "ModuleNotFoundError: No module named 'google_crc32c'",
            "every worker must have the packages of requirements.l",
        ),
        (
            f"pyspark.errors.PySparkRuntimeError: {OTHER_PYTHON}",
            r"every worker must run the driver's Python, 3\.11, one r",
        ),
        (
            'java.io.IOException: Cannot run program "/opt/py": error=2',
            r"every worker must have the Python .* no /opt/py",
        ),
        (
            'java.io.IOException: Cannot run program "/opt/py": error=13, Permission denied',
            r"every worker must have the Python .* no /opt/py",
        ),
    ],
)
def test_an_error_that_comes_of_the_workers_is_one_message_and_exit_code_2(
    last_line, message, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("pyspark.SparkContext._active_spark_context", SimpleNamespace(master="spark://host:7077"))
    # Spark raises an error of its own, with what the worker said as text.
    error = PythonException(f"An exception was thrown from the Python worker.\nTraceback …\n{last_line}\n")
    assert guarded(lambda: fails(error)) == 2
    said = capsys.readouterr().err
    assert re.match(f"thaw: {message}", said)
    assert len(said.splitlines()) == 1


def test_an_error_that_is_ours_is_not_laid_on_the_cluster(capsys) -> None:
    assert cluster_fault(PythonException("ZeroDivisionError: division by zero")) == ""
    assert cluster_fault(ModuleNotFoundError("No module named 'pipelines.nothing'")) == ""
    assert guarded(lambda: fails(PythonException("ZeroDivisionError: division by zero"))) == 1


@pytest.mark.parametrize("line", [OTHER_CODE, "ModuleNotFoundError: No module named 'pipelines.nothing'"])
def test_what_workers_of_this_machine_cannot_import_is_a_fault_of_ours(line, capsys, monkeypatch) -> None:
    monkeypatch.setattr("pyspark.SparkContext._active_spark_context", SimpleNamespace(master="local[2]"))
    error = PythonException(f"Traceback …\n{line}\n")
    assert guarded(lambda: fails(error)) == 1
    assert "this is a fault of ours" in capsys.readouterr().err


def test_a_worker_with_other_sources_says_what_it_has() -> None:
    require_code(code_version())
    with pytest.raises(ConfigError, match=rf"must run the Thaw of the driver, other; \S+ has {code_version()}$"):
        require_code("other")


def test_the_code_version_is_the_same_from_a_zip_and_another_once_a_source_is_altered(tmp_path) -> None:
    def version(alter: str) -> str:
        place = tmp_path / f"thaw{alter}.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for package in PACKAGES:
                for path in (ROOT / package).rglob("*.py"):
                    added = b"#" if path.name == alter else b""
                    archive.writestr(str(path.relative_to(ROOT)), path.read_bytes() + added)
        code = "import pipelines.code as c; print(c.__file__, c.code_version())"
        environment = {**os.environ, "PYTHONPATH": str(place)}
        said = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, check=True
        )
        file, found = said.stdout.decode().split()
        assert file.startswith(str(place))
        return found

    assert version("") == code_version()
    assert version("bits.py") != code_version()


def java(folder: Path, said: str) -> str:
    """A JAVA_HOME whose `java -version` says so."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    program.chmod(0o755)
    return str(folder)


def test_no_java_and_one_that_is_too_old_are_told_with_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="Spark needs Java 17 or newer, found none; install a JDK or set JAVA_HOME"):
        check_java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="found none"):
        check_java()
    for version in ("11.0.2", "1.8.0_292"):
        monkeypatch.setenv("JAVA_HOME", java(tmp_path / version, f'openjdk version "{version}" 2019-01-15'))
        with pytest.raises(ConfigError, match=f"Spark needs Java 17 or newer, found {version}; install a newer JDK"):
            check_java()
    monkeypatch.setenv("JAVA_HOME", java(tmp_path / "21", 'openjdk version "21-ea" 2023-09-19'))
    check_java()
