"""A training job that is killed, asked to stop, and run again publishes what one that ran through publishes."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from jobs import train_dropoutnet
from jobs.launch import main
from pipelines.storage import Workspace, write_json
from tests.pipelines.conftest import make_records, small_state

__all__ = ["make_records", "small_state"]
CONFIG = {
    "name": "small",
    "seed": 7,
    "labels": {"rule": "sampled", "positive_actions": ["click"]},
    "model": {"embedding_dim": 2, "content_units": [4], "preference_units": [4], "tower_units": [4, 3]},
    "training": {"epochs": 4, "patience": 4, "batch_size": 8, "allow_unaudited": True},
    "checkpoints": {"steps": 1},
}


@pytest.fixture
def job(make_records, small_state, tmp_path, monkeypatch):
    """Name of a workspace -> the job's command line on the same small records; here nothing goes to MLflow."""
    records = make_records(800)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.setattr(train_dropoutnet, "log_training", lambda *_, **__: {})

    def arguments(name):
        workspace = Workspace.open(str(tmp_path / name))
        staging = Path(workspace.stage("records", "r" * 64))
        for split in ("train", "validation", "test"):
            shutil.copytree(tmp_path / split, staging / split)
        encoder = write_json(str(staging), "encoder.json", small_state.model_dump(mode="json"))
        told = {"tables": {**records.manifest.tables, "encoder": encoder}, "key": "r" * 64, "as_of": {"x": 1}}
        workspace.publish(str(staging), records.manifest.model_copy(update=told))
        return ["--config", str(tmp_path / "small.yaml"), "--out", workspace.root]

    return arguments


def saved(out) -> list[str]:
    return sorted(path.name for path in Path(out).glob("model/*.checkpoints/*.npz"))


def wait_for(out, name, is_alive=lambda: True) -> None:
    """Until a checkpoint is there that is later than `name`."""
    while not (found := saved(out)) or found[-1] < name:
        assert is_alive()
        time.sleep(0.002)


@pytest.mark.skipif("THAW_KILLS" not in os.environ, reason="takes a minute; `make test-faults` runs it")
def test_a_job_killed_and_then_stopped_goes_on_and_publishes_the_same(job, tmp_path, capsys) -> None:
    command, out = job("out"), tmp_path / "out"
    code = "import sys; from jobs.train_dropoutnet import JOB, main; sys.exit(main(JOB, sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code, *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(out, "000001-000000030", lambda: process.poll() is None)
    finally:
        process.kill()
        process.wait()
    left = saved(out)
    assert left and Workspace(str(out)).current("model") is None

    ended = threading.Event()

    def stop() -> None:
        wait_for(out, "000002-000000030", lambda: not ended.is_set())
        os.kill(os.getpid(), signal.SIGTERM)

    # Should the training end first, the signal ends no more than this test.
    before, stopping = signal.signal(signal.SIGTERM, lambda *_: None), threading.Thread(target=stop, daemon=True)
    try:
        stopping.start()
        assert main(train_dropoutnet.JOB, command) == 143
    finally:
        ended.set()
        stopping.join()
        signal.signal(signal.SIGTERM, before)
    told = capsys.readouterr().err
    assert f"note: training goes on in epoch {int(left[-1][:6])} after step {int(left[-1][7:16])}, as saved" in told
    assert told.splitlines()[-1].startswith("thaw: training was stopped by SIGTERM in epoch ")
    assert "which is saved: the same command goes on from there" in told and "Traceback" not in told

    # The newest is cut short: the one before it is good enough.
    newest = next(Path(out).glob(f"model/*.checkpoints/{saved(out)[-1]}"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert main(train_dropoutnet.JOB, command) == 0
    told = capsys.readouterr().err
    assert "is passed over" in told and "note: training goes on in epoch" in told
    assert list(Path(out).glob("model/*.checkpoints")) == []

    assert main(train_dropoutnet.JOB, job("undisturbed")) == 0
    models = [Workspace(str(tmp_path / name)).current("model") for name in ("out", "undisturbed")]
    assert models[0].read_text("history") == models[1].read_text("history")
    assert models[0].manifest.content_digest == models[1].manifest.content_digest
