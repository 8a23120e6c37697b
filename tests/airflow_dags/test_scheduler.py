"""The DAGs under a real scheduler: days in a row, a backfill, reruns, and a model made because a day was published.

It takes minutes: `make test-faults` runs it.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

PYTHON = Path(__file__).resolve().parents[2] / ".venv-airflow" / "bin" / "python"
pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no Airflow environment; `make setup` installs it"),
    pytest.mark.skipif("THAW_SCHEDULER" not in os.environ, reason="takes minutes; `make test-faults` runs it"),
]
PATIENCE_S = float(os.environ.get("THAW_SCHEDULER", "") or 900)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def standalone(environment: dict[str, str], log: Path) -> Iterator[str]:
    """`airflow standalone` on free ports, everyone an administrator; gives its address, and ends all its processes."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment |= {
        "PATH": f"{PYTHON.parent}{os.pathsep}{environment['PATH']}",  # it starts its parts by their names
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "NO_PROXY": "127.0.0.1",
    }
    with log.open("wb") as told:
        process = subprocess.Popen(
            [PYTHON, "-m", "airflow", "standalone"],
            env=environment,
            stdout=told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: asked(f"{address}/api/v2/monitor/health")["scheduler"]["status"] == "healthy", log)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def wait_for(condition: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(OSError, KeyError):
            if condition():
                return
        time.sleep(1)
    raise TimeoutError(log.read_text(errors="replace")[-4000:])


def test_days_a_backfill_and_a_model_under_a_real_scheduler(database, shop, tmp_path) -> None:
    shop.deliver("2025-01-08")
    log = tmp_path / "standalone.log"
    with standalone(database, log) as address:

        def told(*arguments: str) -> None:
            code = [PYTHON, "-m", "airflow", *arguments]
            done = subprocess.run(code, env=database, check=False, capture_output=True, text=True)
            assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

        def runs(dag: str) -> list[Any]:
            found = asked(f"{address}/api/v2/dags/{dag}/dagRuns?order_by=run_after&limit=50")["dag_runs"]
            assert "failed" not in [run["state"] for run in found], log.read_text(errors="replace")[-4000:]
            return found

        def states(dag: str, run: str) -> dict[str, str]:
            found = asked(f"{address}/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
            return {task["task_id"]: task["state"] for task in found}

        def backfill(first: str, last: str, *more: str) -> None:
            # Its runs end before it does, and a DAG has one backfill at a time.
            of_dag = f"{address}/api/v2/backfills?dag_id=thaw_daily"
            wait_for(lambda: all(one["completed_at"] for one in asked(of_dag)["backfills"]), log)
            told("backfill", "create", "--dag-id", "thaw_daily", "--from-date", first, "--to-date", last, *more)

        def finished(dag: str, count: int) -> bool:
            found = runs(dag)
            return len(found) >= count and {run["state"] for run in found} == {"success"}

        wait_for(
            lambda: {"thaw_daily", "thaw_train"} <= {d["dag_id"] for d in asked(f"{address}/api/v2/dags")["dags"]}, log
        )
        # Two days in a row. A day is named by its start; what it sees ends where it ends.
        backfill("2025-01-06", "2025-01-07")
        told("dags", "unpause", "thaw_daily")
        wait_for(lambda: finished("thaw_daily", 3), log)
        days = {day: of_a_day(shop.digests(day)) for day in ("2025-01-07", "2025-01-08")}
        # The scheduler's own run is of yesterday, of which this shop has nothing: skipped, and nothing published.
        own = next(run for run in runs("thaw_daily") if run["run_type"] == "scheduled")
        skipped = states("thaw_daily", own["dag_run_id"])
        assert (skipped["check_quality"], skipped["publish"]) == ("skipped", "skipped")
        # What arrives later changes no day: one is run again, and a third is filled in before it. Publishing them
        # starts thaw_train (had it been paused, nothing would), which takes the newest day nevertheless.
        told("dags", "unpause", "thaw_train")
        shop.deliver("2025-01-12")
        backfill("2025-01-05", "2025-01-06", "--reprocess-behavior", "completed")
        wait_for(lambda: finished("thaw_daily", 4) and "audit" in shop.digests("2025-01-06"), log)
        assert {day: of_a_day(shop.digests(day)) for day in days} == days
        assert shop.manifest("2025-01-06", "preferences").as_of["snapshot_time"] == 1_736_121_600_000_000
        wait_for(lambda: finished("thaw_train", 1) and has_asset_run(runs("thaw_train")), log)
        trained = next(run["dag_run_id"] for run in runs("thaw_train") if run["run_type"] == "asset_triggered")
        assert set(states("thaw_train", trained).values()) == {"success"}
        assert {"model", "promotion", "recommendations"} <= set(shop.digests("2025-01-08"))
        assert "model" not in shop.digests("2025-01-06")


def of_a_day(digests: dict[str, str]) -> dict[str, str]:
    """Those of the datasets that thaw_daily makes."""
    return {name: digests[name] for name in ("clean", "preferences", "examples", "audit")}


def has_asset_run(runs: list[Any]) -> bool:
    return any(run["run_type"] == "asset_triggered" for run in runs)
