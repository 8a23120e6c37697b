"""What flags and clusters say of processes; the manifests under conf/ are rendered and their commands understood."""

import argparse
import json
import os
import shutil
import string
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from jobs import processes
from jobs.processes import Asked, add_arguments, asked_for, first_host
from pipelines.errors import ConfigError, LostError, UnreachableError
from pipelines.storage import Workspace, write_json
from pipelines.training import distribution
from pipelines.training.distribution import ALONE, check_divides, open_devices
from pipelines.training.rendezvous import Place
from tests.pipelines.conftest import make_records, small_state

__all__ = ["make_records", "small_state"]
ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
SMALL = {"embedding_dim": 2, "content_units": [4], "preference_units": [4], "tower_units": [4, 3]}
CONFIG = {
    "name": "small",
    "seed": 7,
    "labels": {"rule": "sampled", "positive_actions": ["click"]},
    "model": SMALL,
    "training": {"epochs": 1, "batch_size": 16, "allow_unaudited": True, "losses": {"num_negatives": 3}},
}


ENTRY = """
import sys
from jobs import train_dropoutnet as job
from jobs.launch import main
job.log_training = lambda *_, **told: {}
sys.exit(main(job.JOB))
"""
"""The job without MLflow, which other tests start."""


def asked(*flags: str, **environ: str) -> Asked:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return asked_for(parser.parse_args(flags), environ)


def test_without_a_word_there_is_one_process_and_with_a_number_the_others_start_here() -> None:
    assert asked() == Asked()
    assert asked("--processes", "3", "--devices", "2") == Asked(processes=3, devices=2)
    flags = ("--processes", "3", "--process-index", "2", "--coordinator", "h:29400", "--join-timeout-s", "5")
    assert asked(*flags) == Asked(3, 2, "h:29400", wait_s=5)


def test_clusters_say_by_their_variables_what_flags_leave_out() -> None:
    pod = {"THAW_PROCESSES": "4", "THAW_COORDINATOR": "towers-0.towers:29400", "JOB_COMPLETION_INDEX": "3"}
    assert asked(**pod) == Asked(4, 3, "towers-0.towers:29400")
    assert asked("--process-index", "1", **pod) == Asked(4, 1, "towers-0.towers:29400")
    # An indexed Job of one pod that does something else with its index.
    assert asked(JOB_COMPLETION_INDEX="3") == Asked()
    task = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "n[07-08]", "SLURM_JOB_ID": "5"}
    assert asked(**task) == Asked(2, 1, "n07:61445")
    # The script around srun sees the whole job's numbers, and is no task.
    assert asked(SLURM_PROCID="0", SLURM_NTASKS="2", SLURM_NODELIST="n[07-08]") == Asked()
    assert [first_host(nodes) for nodes in ("a", "a,b[1-2]", "gpu[003-007,9],z", "x-1")] == ["a", "a", "gpu003", "x-1"]
    told = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    assert asked(TF_CONFIG=told) == Asked(2, 1, "a:1")


@pytest.mark.parametrize(
    ("flags", "environ", "message"),
    [
        (["--processes", "0"], {}, "--processes must be at least 1, got 0"),
        (
            ["--processes", "2", "--process-index", "2", "--coordinator", "h:1"],
            {},
            "from 0 to 1, .* got 2; count from 0",
        ),
        (["--processes", "2", "--process-index", "-1"], {}, "from 0 to 1"),
        (["--processes", "2", "--process-index", "1"], {}, "got no --coordinator"),
        (["--processes", "2", "--coordinator", "h:1"], {}, "got no --process-index"),
        (["--processes", "2", "--process-index", "1", "--coordinator", "h"], {}, "must be HOST:PORT, got 'h'"),
        (["--join-timeout-s", "0"], {}, "--join-timeout-s must be positive"),
        (["--processes", "2", "--process-index", "1", "--coordinator", "h:99999"], {}, "got 'h:99999'; .* to 65535"),
        (["--processes", "2", "--process-index", "1", "--coordinator", "[::1]:29400"], {}, "IPv4 address"),
        (
            [],
            {"TF_CONFIG": '{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "chief"}}'},
            "TF_CONFIG must name workers alone, got chief",
        ),
        (
            [],
            {"TF_CONFIG": '{"cluster": {"worker": ["b:1", "c:1"]}, "task": {"type": "evaluator", "index": 0}}'},
            "TF_CONFIG must name workers alone, got evaluator",
        ),
        ([], {"THAW_PROCESSES": "two"}, "THAW_PROCESSES must be a whole number, got 'two'"),
        ([], {"TF_CONFIG": "{}"}, "TF_CONFIG must be JSON with cluster.worker and task"),
    ],
)
def test_numbers_and_addresses_that_cannot_be_are_refused(flags, environ, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        asked(*flags, **environ)


def test_what_the_backend_cannot_do_or_a_batch_be_divided_by_is_refused() -> None:
    with pytest.raises(ConfigError, match="a process has one device, got --devices 2; set --processes 2 instead"):
        open_devices(None, 2)
    with pytest.raises(ConfigError, match="--devices must be at least 1, got 0"):
        open_devices(None, 0)
    assert open_devices(None, 1) is ALONE

    with pytest.raises(ConfigError, match=r"`training\.batch_size` must be a multiple .* got 64 and 3; .* to 66"):
        check_divides(3, "training.batch_size", 64)


def test_a_batch_that_processes_do_not_divide_is_refused_before_any_is_started(monkeypatch) -> None:
    monkeypatch.setattr(processes._now, "asked", Asked(processes=3))
    with pytest.raises(ConfigError, match=r"`training\.batch_size` must be a multiple"):
        processes.together(None, None, {"training.batch_size": 64})


@pytest.mark.parametrize("fails", [False, True])
def test_the_others_are_let_go_when_the_model_is_registered_and_not_before(fails, monkeypatch) -> None:
    told = []
    meeting = SimpleNamespace(end=lambda: told.append("end"), fail=told.append)
    monkeypatch.setattr(processes._now, "asked", Asked(2, 0, "h:1"))
    monkeypatch.setattr(processes._now, "ear", object())
    monkeypatch.setattr(processes.rendezvous, "gather", lambda *_, **__: meeting)
    monkeypatch.setattr(processes, "open_devices", lambda *_: ALONE)
    monkeypatch.setattr(processes, "_same", lambda *_: {})
    away = UnreachableError("away")
    with suppress(UnreachableError), processes.around():
        assert processes.together(None, SimpleNamespace(config=None, parents={}, key=""), {}) is ALONE
        assert told == []  # publishing and registering come now
        if fails:
            raise away
    assert told == ([away] if fails else ["end"])


def test_on_jax_a_process_of_several_here_takes_as_many_devices_as_each_has(monkeypatch) -> None:
    jax, given = pytest.importorskip("jax"), {}
    monkeypatch.setattr(distribution.keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(distribution, "take_cores", lambda *_: None)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **told: given.update(told))

    def lacks(*_):
        raise RuntimeError("no such device")

    monkeypatch.setattr(distribution, "JaxDevices", lacks)
    meeting = SimpleNamespace(place=Place("h", 1, 2, 1, 9), told={"addresses": ["h:1", "h:2"]})
    with pytest.raises(ConfigError, match="2 processes with 2 each, and JAX says: no such device; set fewer"):
        open_devices(meeting, 2, 1)
    assert given["local_device_ids"] == [2, 3]


def test_the_kubernetes_manifest_is_an_indexed_job_whose_pods_find_each_other() -> None:
    values = {"NAME": "towers", "PROCESSES": "4", "IMAGE": "i", "JOB": "train_dropoutnet", "CONFIG": "c", "CLAIM": "v"}
    text = string.Template((CONF / "kubernetes/train.yaml").read_text()).substitute(values)
    service, job = yaml.safe_load_all(text)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"] == 4
    # Pod 0's host name is the Job's with -0, in the subdomain that the headless service makes.
    assert service["spec"]["clusterIP"] == "None" and service["metadata"]["name"] == pod["subdomain"] == "towers"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    environ = {one["name"]: one["value"] for one in container["env"]} | {"JOB_COMPLETION_INDEX": "2"}
    assert asked(**environ) == Asked(4, 2, "towers-0.towers:29400")
    assert container["command"] == ["thaw", "train_dropoutnet", "--config", "c", "--out", "/out"]
    evicted, rule = spec["podFailurePolicy"]["rules"]
    assert evicted == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    # All pods of a training fail when one is lost: their number is no limit.
    assert spec["backoffLimit"] >= 1000 and spec["activeDeadlineSeconds"] > 0
    for passing in (LostError, UnreachableError):
        assert passing.exit_code not in rule["onExitCodes"]["values"]
    assert rule["onExitCodes"]["values"] == [2, 3] and rule["onExitCodes"]["containerName"] == container["name"]
    assert pod["restartPolicy"] == "Never"


def test_the_slurm_script_starts_one_command_a_task() -> None:
    path = CONF / "slurm/train.sbatch"
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    lines = path.read_text().splitlines()
    options = dict(
        line.removeprefix("#SBATCH --").split("=") for line in lines if line.startswith("#SBATCH") and "=" in line
    )
    assert options["ntasks-per-node"] == "1" and int(options["nodes"]) == 2
    assert lines[-1] == 'srun --kill-on-bad-exit=1 thaw "$@"'


@pytest.fixture
def train(make_records, small_state, tmp_path):
    """(flags) -> (exit code, what was said, history) of `thaw train_dropoutnet` on small records."""
    workspace, records = Workspace.open(str(tmp_path / "out")), make_records(50)
    path = workspace.stage("records", "key" * 8)
    shutil.copytree(records.path, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("out"))
    tables = {**records.manifest.tables, "encoder": write_json(path, "encoder.json", small_state.model_dump())}
    workspace.publish(path, records.manifest.model_copy(update={"tables": tables, "key": "key" * 8}))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONFIG))

    def run(*flags: str):
        command = [sys.executable, "-c", ENTRY, "--config", "small.yaml", "--out", "out", "--force", *flags]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        model = Workspace.open(str(tmp_path / "out")).current("model")
        return done.returncode, done.stderr, model and json.loads(Path(model.path, "history.json").read_text())

    return run


def test_the_command_starts_a_second_process_and_trains_what_one_trains(train) -> None:
    code, said, shared = train("--processes", "2")
    assert code == 0, said
    # The second process is silent, and the first publishes once.
    assert said.count("training  epoch 1/1") == said.count("train_dropoutnet  ") == 1
    code, said, alone = train()
    assert code == 0, said
    for name, value in alone["epochs"][0].items():
        assert shared["epochs"][0][name] == pytest.approx(value, rel=2e-4), name
