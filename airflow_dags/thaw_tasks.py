"""What the DAGs share: where things are, the settings of a run, and one task for each job.

Where things are comes from the environment of the scheduler and the workers:

    THAW_HOME           the checkout or the unpacked package     (default: the folder above this one)
    THAW_BIN            the job environment's `bin` folder       (default: THAW_HOME/.venv/bin)
    THAW_SPARK_POOL     the pool of Spark jobs                   (default: default_pool)
    THAW_TRAINING_POOL  the pool of training and evaluation      (default: default_pool)
    THAW_PY_FILES, THAW_ARCHIVES, THAW_WORKER_PYTHON
                        on a cluster: spark-submit's --py-files and --archives, and the workers' Python (default: none,
                        none, THAW_BIN/python)

What is run comes from the DAG's params, else from Airflow's Variables thaw_config, thaw_environment, thaw_data,
thaw_out and thaw_tracking, else from defaults that work on one machine.
"""

import os
import re
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Asset, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

HOME = Path(os.environ.get("THAW_HOME", Path(__file__).resolve().parents[1]))
BIN = Path(os.environ.get("THAW_BIN", HOME / ".venv" / "bin"))
SPARK_POOL = os.environ.get("THAW_SPARK_POOL", "default_pool")
TRAINING_POOL = os.environ.get("THAW_TRAINING_POOL", "default_pool")

SPARK_JOBS = (
    "check_quality",
    "compute_preferences",
    "compute_factors",
    "build_examples",
    "audit_leakage",
    "write_records",
)
OPTIONAL = ("write_image_records", "train_classifier", "embed_content", "compute_factors")
"""Which configuration is run is known only then: these do nothing where it does not ask for them."""
TRAINING = ("train_classifier", "train_dropoutnet", "evaluate_model", "promote_model")

DAYS = Asset("thaw_days")
"""A day whose examples have passed the audit. An event's `extra` says which day, and the settings of its run."""

_MEANS = {
    "config": "YAML configuration of the source",
    "environment": "YAML laid over it, such as conf/env/cluster.yaml; empty: none",
    "data": "folder of raw data; empty: the configuration's own demo data",
    "out": "output folder; each day is a workspace of its own in it, days/DATE",
    "tracking": "MLflow's address; empty: SQLite in the output folder, tracking/mlflow.db",
}
PARAMS = {name: Param(None, type=["null", "string"], description=text) for name, text in _MEANS.items()}

DEFAULT_ARGS = {
    "retries": 2,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=15),
    "execution_timeout": timedelta(hours=2),
}

_EXIT_CODE = re.compile(r"(?:Error code is: |non-zero exit code )(\d+)")
NO_DATA, REFUSED = 4, 3


def _chosen(name, default):
    """Of a template: the param, else the Variable, else the default, itself of a template."""
    return f"(params.{name} or var.value.get('thaw_{name}', '') or {default})"


_CONFIG = _chosen("config", f"'{HOME / 'conf' / 'demo.yaml'}'")
_OUT = _chosen("out", f"'{HOME / 'out' / 'airflow'}'")
_CHOICES = {
    "config": _CONFIG,
    # A file that is laid over itself changes nothing, and one list of arguments serves all.
    "environment": _chosen("environment", _CONFIG),
    "data": _chosen("data", "''"),
    "out": _OUT,
    "tracking": _chosen("tracking", f"'sqlite:///' ~ {_OUT} ~ '/tracking/mlflow.db'"),
}
SETTINGS = {name: f"{{{{ {choice} }}}}" for name, choice in _CHOICES.items()}
"""What a run works with, as templates."""


@contextmanager
def exit_codes(skip_on):
    """What a job's exit code means to Airflow: to skip, to fail for good, or to try again."""
    try:
        yield
    except AirflowException as error:
        found = _EXIT_CODE.search(str(error))
        code = int(found[1]) if found else 1
        if code in skip_on:
            raise AirflowSkipException(f"exit code {code}: the job's log says why there is nothing to do") from None
        if code == REFUSED:
            raise AirflowFailException("a gate refused: the job's log says why; trying again cannot mend it") from None
        # Wrong input too: a full disk is told by the same code, and passes.
        raise


class SparkJob(SparkSubmitOperator):
    """A Spark job, by the job environment's own spark-submit."""

    def __init__(self, *, skip_on=(), **kwargs):
        super().__init__(**kwargs)
        self.skip_on = skip_on

    def execute(self, context):
        """Submit, and wait."""
        with exit_codes(self.skip_on):
            return super().execute(context)


class Command(BashOperator):
    """A job that is a plain command of the job environment."""

    def __init__(self, *, skip_on=(), **kwargs):
        super().__init__(append_env=True, skip_on_exit_code=None, **kwargs)
        self.skip_on = skip_on

    def execute(self, context):
        """Run, and wait."""
        with exit_codes(self.skip_on):
            return super().execute(context)


_COMMAND = """
set -eu
case $THAW_RUN_TRACKING in
  # MLflow lays the artifacts of a database without a server in the folder that it is used from.
  sqlite:///*) folder=$(dirname "${THAW_RUN_TRACKING#sqlite:///}"); mkdir -p "$folder"; cd "$folder" ;;
esac
exec "$THAW_RUN_BIN/thaw" "$THAW_RUN_JOB" --config "$THAW_RUN_CONFIG" --config "$THAW_RUN_ENVIRONMENT" \\
  --data "$THAW_RUN_DATA" --out "$THAW_RUN_OUT/days/$THAW_RUN_DAY" --as-of "$THAW_RUN_DAY" \\
  --set "tracking.uri=$THAW_RUN_TRACKING" """


def job(name, day, settings, *, skip_on=(), **kwargs):
    """The task of a job: `day` and the values of `settings` are templates."""
    kwargs.setdefault("pool", SPARK_POOL if name in SPARK_JOBS else TRAINING_POOL if name in TRAINING else None)
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    if name in SPARK_JOBS:
        arguments = [
            "--config", settings["config"], "--config", settings["environment"],
            "--data", settings["data"],  # absent and empty mean the same
            "--out", f"{settings['out']}/days/{day}", "--as-of", day,
        ]  # fmt: skip
        return SparkJob(
            task_id=name,
            application=str(HOME / "jobs" / f"{name}.py"),
            application_args=[*arguments, *(["--if-configured"] if name in OPTIONAL else [])],
            name=f"thaw {name} {day}",
            spark_binary=str(BIN / "spark-submit"),
            py_files=os.environ.get("THAW_PY_FILES"),
            archives=os.environ.get("THAW_ARCHIVES"),
            env_vars={
                "PYSPARK_PYTHON": os.environ.get("THAW_WORKER_PYTHON", str(BIN / "python")),
                "PYSPARK_DRIVER_PYTHON": str(BIN / "python"),
            },
            skip_on=skip_on,
            **kwargs,
        )
    told = {"bin": str(BIN), "job": name, "day": day, **settings}
    # Data of one's own makes the generated demo needless.
    first = '\n[ -z "$THAW_RUN_DATA" ] || exit 0' if name == "generate_demo" else ""
    return Command(
        task_id=name,
        # The values pass through the environment, so that none of them is ever read as a command.
        bash_command=first + _COMMAND + ("--if-configured" if name in OPTIONAL else ""),
        env={f"THAW_RUN_{key.upper()}": value for key, value in told.items()},
        skip_on=skip_on,
        **kwargs,
    )
