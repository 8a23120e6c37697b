"""The DAGs, in Airflow's own environment: they parse lightly, hold the chain between them, and run for real."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from jobs.launch import OPTIONAL, SPARK_JOBS, STAGES

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "airflow_dags"
PYTHON = ROOT / ".venv-airflow" / "bin" / "python"
pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no Airflow environment; `make setup` installs it"),
]
PARSE_S = 5.0
"""Processor time that parsing may take, Airflow's own import left out: the scheduler does it every 30 s."""

PARSE = """
import json, sys, time, types
import pendulum
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.providers.apache.spark.operators import spark_submit
from airflow.sdk.exceptions import AirflowException
before = time.process_time()
bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=Path(sys.argv[1]), bundle_name="dags-folder")
seconds = time.process_time() - before

import thaw_tasks
def meaning(message, skip_on):
    try:
        with thaw_tasks.exit_codes(skip_on):
            raise AirflowException(message)
    except AirflowException as error:
        return type(error).__name__

def lands(param, variable):
    daily = bag.dags["thaw_daily"]
    values = {"value": {"thaw_landing_minutes": variable} if variable else {}}
    template = daily.get_template_env().from_string(daily.get_task("wait_until_landed").target_time)
    end = pendulum.datetime(2025, 1, 8)
    return str(template.render(params={"landing_minutes": param}, var=values, data_interval_end=end))[5:16]

def chosen(*extras):
    events = {thaw_tasks.DAYS.name: [types.SimpleNamespace(extra=extra) for extra in extras]}
    of_asset = type("Events", (), {"__getitem__": lambda self, asset: events[asset.name]})()
    choose = bag.dags["thaw_train"].get_task("choose_day").python_callable
    return choose({"out": "mine"}, params={"day": None}, inlet_events=of_asset)

def submitted(name):
    task = next(dag.get_task(name) for dag in bag.dags.values() if name in dag.task_ids)
    return [task.py_files, task._archives, task.env_vars["PYSPARK_PYTHON"], task.env_vars["PYSPARK_DRIVER_PYTHON"]]

print("RESULT" + json.dumps({
    "seconds": seconds,
    "errors": {str(k): str(v) for k, v in bag.import_errors.items()},
    "timetables": {name: repr(dag.timetable) for name, dag in bag.dags.items()},
    "order": {name: [task.task_id for task in dag.topological_sort()] for name, dag in bag.dags.items()},
    "pools": {task.task_id: task.pool for dag in bag.dags.values() for task in dag.tasks},
    "retries": {task.task_id: task.retries for dag in bag.dags.values() for task in dag.tasks},
    "spark": [task.task_id for dag in bag.dags.values() for task in dag.tasks if hasattr(task, "application_args")],
    "if_configured": [task.task_id for dag in bag.dags.values() for task in dag.tasks
                      if "--if-configured" in str(getattr(task, "application_args", ""))
                      or "--if-configured" in str(getattr(task, "bash_command", ""))],
    "as_of": [task.task_id for dag in bag.dags.values() for task in dag.tasks
              if "--as-of" in str(getattr(task, "application_args", ""))
              or "--as-of" in str(getattr(task, "bash_command", ""))],
    "skip_on": {task.task_id: list(task.skip_on) for dag in bag.dags.values() for task in dag.tasks
                if getattr(task, "skip_on", ())},
    "heavy": [name for name in ("pyspark", "tensorflow", "pandas", "numpy", "mlflow", "pipelines", "jobs")
              if name in sys.modules],
    "meanings": [meaning(f"Cannot execute: x. Error code is: {code}.", (4,)) for code in (1, 2, 3, 4)]
                + [meaning(f"Bash command failed. The command returned a non-zero exit code {code}.", (3,))
                   for code in (1, 2, 3, 4)],
    "lands": [lands(None, ""), lands(None, "360"), lands(0, "360"), lands(2880, "360")],
    "waits": [bag.dags["thaw_daily"].get_task("wait_until_landed").timeout / 86400,
              bag.dags["thaw_daily"].dagrun_timeout.days],
    "chosen": [chosen({"day": "2025-01-08", "out": "old"}, {"day": "2025-01-08", "out": "new"}, {"by": "hand"},
                      {"day": "2025-01-07", "out": "older"}), chosen({"day": "2025-01-08"})],
    "submitted": submitted("build_examples"),
}))
"""


@pytest.fixture(scope="module")
def parsed(airflow):
    """What Airflow makes of the folder, with pools and a cluster that somebody named."""
    environment = {
        **airflow,
        "THAW_SPARK_POOL": "spark",
        "THAW_TRAINING_POOL": "training",
        "THAW_PY_FILES": "dist/thaw.zip",
        "THAW_ARCHIVES": "worker.tar.gz#environment",
        "THAW_WORKER_PYTHON": "./environment/bin/python",
        "THAW_BIN": "/bin-of-jobs",
    }
    code = [PYTHON, "-c", PARSE, str(DAGS)]
    done = subprocess.run(code, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.rpartition("RESULT")[2])


def test_the_dags_parse_quickly_and_without_heavy_imports(parsed) -> None:
    assert parsed["errors"] == {} and parsed["heavy"] == []
    assert parsed["seconds"] < PARSE_S
    assert parsed["timetables"]["thaw_daily"].startswith("CronDataIntervalTimetable(")  # a day, and no moment
    assert "thaw_days" in parsed["timetables"]["thaw_train"]


def test_the_two_dags_hold_every_stage_in_the_order_of_the_chain(parsed) -> None:
    ours = {name: [task for task in order if task in STAGES] for name, order in parsed["order"].items()}
    for order in ours.values():
        assert order == [stage for stage in STAGES if stage in order]
    assert sorted([*ours["thaw_daily"], *ours["thaw_train"]]) == sorted(STAGES)
    assert set(parsed["spark"]) == set(SPARK_JOBS)
    # The DAGs serve any configuration, and most have neither images nor reference factors.
    assert set(parsed["if_configured"]) == set(OPTIONAL)
    assert set(parsed["as_of"]) == set(STAGES)


def test_tasks_have_pools_retries_and_a_meaning_for_each_exit_code(parsed) -> None:
    assert {parsed["pools"][job] for job in SPARK_JOBS} == {"spark"}
    assert (parsed["pools"]["train_dropoutnet"], parsed["pools"]["recommend"]) == ("training", "default_pool")
    assert set(parsed["retries"].values()) == {2}
    assert parsed["skip_on"] == {"check_quality": [4], "promote_model": [3]}
    again, never, skip = "AirflowException", "AirflowFailException", "AirflowSkipException"
    assert parsed["meanings"] == [again, again, never, skip, again, again, skip, again]


def test_a_day_is_waited_for_as_long_as_its_data_takes_to_land(parsed) -> None:
    assert parsed["lands"] == ["01-08 01:00", "01-08 06:00", "01-08 00:00", "01-10 00:00"]
    sensor, whole_run = parsed["waits"]
    assert 7 < sensor < whole_run


def test_a_training_takes_the_newest_day_as_it_was_last_published(parsed) -> None:
    assert parsed["chosen"] == [{"day": "2025-01-08", "out": "new"}, {"day": "2025-01-08", "out": "mine"}]


def test_workers_of_a_cluster_are_given_thaw_its_packages_and_a_python_of_their_own(parsed) -> None:
    python = "/bin-of-jobs/python"
    assert parsed["submitted"] == ["dist/thaw.zip", "worker.tar.gz#environment", "./environment/bin/python", python]


def run(environment, dag: str, date: str, **conf: str) -> str:
    """`airflow dags test`: what it said, where it came to a good end."""
    code = [PYTHON, "-m", "airflow", "dags", "test", dag, date, *(["--conf", json.dumps(conf)] if conf else [])]
    done = subprocess.run(code, env=environment, capture_output=True, text=True, check=False, timeout=1200)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return said


def test_a_day_becomes_audited_examples_and_a_champion_that_recommends(database, shop) -> None:
    shop.deliver("2025-01-08")
    run(database, "thaw_daily", "2025-01-08")
    day = shop.digests("2025-01-08")
    assert {"clean", "preferences", "examples", "audit"} == set(day)
    # The day sees what is before it, whatever is there.
    assert shop.manifest("2025-01-08", "examples").as_of["end"] < 1_736_294_400_000_000
    run(database, "thaw_train", "2025-01-08", day="2025-01-08")
    made = shop.digests("2025-01-08")
    assert {"records", "model", "evaluation", "promotion", "recommendations"} <= set(made)
    assert {name: made[name] for name in day} == day
    assert shop.manifest("2025-01-08", "recommendations").notes["alias"] == "champion"
    assert (shop.out / "tracking" / "mlflow.db").exists()


@pytest.mark.skipif("THAW_SCHEDULER" not in os.environ, reason="takes minutes; `make test-faults` runs it")
def test_the_day_after_late_data_and_a_day_that_arrives_twice(database, shop) -> None:
    shop.deliver("2025-01-07")
    run(database, "thaw_daily", "2025-01-07")
    before = shop.digests("2025-01-07")
    shop.deliver("2025-01-12")
    run(database, "thaw_daily", "2025-01-08")
    first, second = (shop.manifest(day, "clean").facts["rows"] for day in ("2025-01-07", "2025-01-08"))
    assert second["out"] > first["out"] > 0
    run(database, "thaw_daily", "2025-01-07")
    assert shop.digests("2025-01-07") == before
    # The logs of every day once more, under other names: duplicates, and nothing else.
    after = shop.digests("2025-01-08")
    shop.deliver("2025-01-12", suffix="again_")
    run(database, "thaw_daily", "2025-01-08")
    twice = shop.digests("2025-01-08")
    assert {name: twice[name] for name in ("preferences", "examples")} == {
        name: after[name] for name in ("preferences", "examples")
    }
    assert shop.manifest("2025-01-08", "clean").facts["rows"]["duplicates"] > second["duplicates"]


@pytest.mark.skipif("THAW_SCHEDULER" not in os.environ, reason="takes minutes; `make test-faults` runs it")
def test_a_day_without_data_is_skipped_and_publishes_nothing(database, shop) -> None:
    shop.deliver("2025-01-08")
    said = run(database, "thaw_daily", "2025-03-01")
    assert "the log must have events of the 1d before 2025-03-01, it has none" in said
    assert shop.digests("2025-03-01") == {}
