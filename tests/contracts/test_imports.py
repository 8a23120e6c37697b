"""The two engines stay apart: each side is imported in a process of its own, and sys.modules is looked at."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.launch import SPARK_JOBS

ROOT = Path(__file__).resolve().parents[2]


def modules_after(*names: str) -> set[str]:
    # A main module needs a file: PySpark takes one without for its own doctests, and exits.
    code = f"import sys; sys.modules['__main__'].__file__ = 'm'; import {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_the_spark_jobs_never_import_tensorflow() -> None:
    loaded = modules_after(*(f"jobs.{name}" for name in SPARK_JOBS))
    assert "pyspark" in loaded
    assert not loaded & {"tensorflow", "keras", "mlflow"}


def test_records_are_read_without_an_engine() -> None:
    loaded = modules_after("pipelines.records.reader")
    assert not loaded & {"pyspark", "tensorflow", "keras", "mlflow", "apache_beam", "pandas"}


def test_the_training_side_never_imports_spark() -> None:
    # Tracking is left out: MLflow imports pyspark by itself where it is installed. Our own imports are import-linter's.
    sides = ("models.dropoutnet", "losses.registry", "training.fit", "training.input", "retrieval.scorer")
    loaded = modules_after(*(f"pipelines.{side}" for side in (*sides, "evaluation.evaluate")))
    assert "keras" in loaded
    assert not loaded & {"pyspark", "great_expectations", "apache_beam"}


def test_image_jobs_never_import_spark_and_records_no_tensorflow() -> None:
    loaded = modules_after("jobs.write_image_records")
    assert "apache_beam" in loaded
    assert not loaded & {"pyspark", "great_expectations", "tensorflow", "keras", "mlflow"}
    # Keras comes with the encoder.
    assert not modules_after("jobs.embed_content") & {"pyspark", "great_expectations", "mlflow"}


def test_help_and_configuration_need_no_engine() -> None:
    loaded = modules_after("jobs.cli", "jobs.launch", "pipelines.config")
    assert not loaded & {"pyspark", "tensorflow", "keras", "mlflow", "great_expectations", "apache_beam"}


def test_a_job_that_the_configuration_does_not_ask_for_loads_no_engine() -> None:
    asked = ["embed_content", "--config", "conf/movielens.yaml", "--if-configured"]
    code = f"import sys; from jobs.cli import main; assert main({asked}) == 0; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "there is nothing to do" in done.stderr
    assert not set(done.stdout.split()) & {"pyspark", "tensorflow", "keras", "mlflow", "apache_beam"}


@pytest.mark.parametrize("package", ["schemas", "pipelines", "jobs", "airflow_dags", "benchmarks"])
def test_every_module_opens_with_what_it_does(package) -> None:
    bare = [
        path.name
        for path in (ROOT / package).rglob("*.py")
        if not path.read_text(encoding="utf-8").lstrip().startswith('"""')
    ]
    assert bare == []
