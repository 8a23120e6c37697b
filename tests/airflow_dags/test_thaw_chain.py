"""The DAG, in Airflow's own environment: it parses lightly, keeps the chain's order, and runs for real."""

import itertools
import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from jobs.launch import OPTIONAL, SPARK_JOBS, STAGES
from pipelines.config import load_config

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-airflow" / "bin" / "python"
pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no Airflow environment; `make setup` installs it"),
]

PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
dag = bag.dags.get("thaw_chain")
print("RESULT" + json.dumps({
    "errors": {str(k): str(v) for k, v in bag.import_errors.items()},
    "order": [task.task_id for task in dag.topological_sort()] if dag else [],
    "edges": sorted([task.task_id, down] for task in dag.tasks for down in task.downstream_task_ids) if dag else [],
    "operators": {task.task_id: type(task).__name__ for task in dag.tasks} if dag else {},
    "if_configured": [task.task_id for task in dag.topological_sort()
                      if "--if-configured" in str(getattr(task, "application_args", ""))
                      or "--if-configured" in str(getattr(task, "bash_command", ""))] if dag else [],
    "refused": {n: [getattr(dag.get_task(n), "skip_on_exit_code", None), dag.get_task(n).trigger_rule]
                for n in ("evaluate_model", "promote_model", "recommend")} if dag else {},
    "heavy": [m for m in ("pyspark", "tensorflow", "pandas", "mlflow", "pipelines", "jobs") if m in sys.modules],
}))
"""


SPARK_DEFAULTS = """
spark.driver.memory 1g
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:MetaspaceSize=256m -XX:NewSize=256m
spark.sql.adaptive.enabled false
spark.sql.codegen.wholeStage false
spark.sql.codegen.factoryMode NO_CODEGEN
spark.ui.enabled false
"""

FEW_FEATURES = (
    "preferences.windows=[lifetime]",
    "preferences.entities=[user, item]",
    "preferences.statistics=[{name: click, kind: count, actions: [click]}]",
    "preferences.recent=[]",
    "catalogue.rows=0",
    "training.losses.catalogue_negatives=0",
    "audit.sample=9",
)
"""Here it is the tasks that are tried; what they make of every feature, `end_to_end` tries."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A fresh Airflow home with its database."""
    home = tmp_path_factory.mktemp("airflow")
    # What a cluster's own settings would say: here, that jobs are short.
    (home / "spark-defaults.conf").write_text(SPARK_DEFAULTS)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "airflow_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
        "SPARK_CONF_DIR": str(home),
    }
    environment.pop("THAW_DATA", None)
    subprocess.run([PYTHON, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    return environment


def test_the_dag_parses_without_heavy_imports_and_keeps_the_order_of_the_chain(home) -> None:
    done = subprocess.run(
        [PYTHON, "-c", PARSE, str(ROOT / "airflow_dags")], env=home, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.rpartition("RESULT")[2])
    assert found["errors"] == {}
    assert found["order"] == list(STAGES)
    assert found["edges"] == sorted(list(pair) for pair in itertools.pairwise(STAGES))
    assert {task for task, kind in found["operators"].items() if kind == "SparkSubmitOperator"} == set(SPARK_JOBS)
    assert found["heavy"] == []
    # The DAG serves any configuration, and most have neither images nor reference factors.
    assert found["if_configured"] == list(OPTIONAL)
    # A challenger that the gate refuses (exit code 3) is no failure, and the champion goes on recommending.
    assert found["refused"] == {
        "evaluate_model": [[], "all_success"],
        "promote_model": [[3], "all_success"],
        "recommend": [[], "none_failed"],
    }


def test_a_real_dag_run_makes_a_champion_and_recommendations(home, tmp_path) -> None:
    small = load_config([ROOT / "conf/demo.yaml", ROOT / "tests/end_to_end/small_demo.yaml"], FEW_FEATURES)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small.model_dump(mode="json")))
    conf = {"config": str(tmp_path / "small.yaml"), "data": "", "out": str(tmp_path / "out")}
    done = subprocess.run(
        [PYTHON, "-m", "airflow", "dags", "test", "thaw_chain", "2025-03-01", "--conf", json.dumps(conf)],
        env=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    published = {path.parent.name for path in (tmp_path / "out").glob("*/CURRENT")}
    assert {
        "content_vectors",
        "clean",
        "preferences",
        "examples",
        "audit",
        "records",
        "model",
        "promotion",
        "recommendations",
    } <= published
