"""The whole chain as a DAG: raw logs to a registered model and recommendations, once a day.

Order and schedule only. Spark jobs go through the job environment's own spark-submit, the others are plain
commands of that environment. Where things are comes from the environment of the scheduler and the workers:

    THAW_HOME    the checkout or the unpacked package   (default: the folder above this one)
    THAW_BIN     the job environment's `bin` folder     (default: THAW_HOME/.venv/bin)

and what is run comes from the DAG's parameters, which a trigger may change.
"""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param

HOME = Path(os.environ.get("THAW_HOME", Path(__file__).resolve().parents[1]))
BIN = Path(os.environ.get("THAW_BIN", HOME / ".venv" / "bin"))

SPARK_JOBS = (
    "check_quality",
    "compute_preferences",
    "compute_factors",
    "build_examples",
    "audit_leakage",
    "write_records",
)
IMAGE_JOBS = ("write_image_records", "train_classifier", "embed_content")
CHAIN = (
    "generate_demo",
    *IMAGE_JOBS,
    *SPARK_JOBS,
    "train_dropoutnet",
    "evaluate_model",
    "promote_model",
    "recommend",
)

with DAG(
    dag_id="thaw_chain",
    description="Raw logs to a registered cold-start recommender",
    # A plain "@daily" gives an interval of zero length; this one is the day.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=1), "execution_timeout": timedelta(hours=2)},
    params={
        "config": Param(str(HOME / "conf" / "demo.yaml"), type="string", description="YAML configuration"),
        "data": Param("", type="string", description="folder of raw data; empty: the configuration's own demo data"),
        "out": Param(str(HOME / "out" / "airflow"), type="string", description="output folder"),
    },
    tags=["thaw"],
    doc_md=__doc__,
) as dag:
    previous = None
    for name in CHAIN:
        # An absent --data and an empty one mean the same, so that one list of arguments serves every job.
        arguments = ["--config", "{{ params.config }}", "--data", "{{ params.data }}", "--out", "{{ params.out }}"]
        if name in (*IMAGE_JOBS, "compute_factors"):
            # Which configuration is run is known only then.
            arguments.append("--if-configured")
        if name in SPARK_JOBS:
            task = SparkSubmitOperator(
                task_id=name,
                application=str(HOME / "jobs" / f"{name}.py"),
                application_args=arguments,
                spark_binary=str(BIN / "spark-submit"),
                env_vars={"PYSPARK_PYTHON": str(BIN / "python"), "PYSPARK_DRIVER_PYTHON": str(BIN / "python")},
            )
        else:
            quoted = " ".join(f"'{argument}'" for argument in arguments)
            # Data of one's own makes the generated demo needless.
            unless = "[ -n '{{ params.data }}' ] || " if name == "generate_demo" else ""
            task = BashOperator(
                task_id=name,
                bash_command=f"{unless}'{BIN / 'thaw'}' {name} {quoted}",
                append_env=True,
                # A challenger that the gate refuses is no failure: yesterday's champion goes on recommending.
                skip_on_exit_code=3 if name == "promote_model" else None,
                trigger_rule="none_failed" if name == "recommend" else "all_success",
            )
        if previous is not None:
            previous >> task
        previous = task
