"""Several seeds by one command; a single run is tried end to end."""

import json
from types import SimpleNamespace

import pytest

import jobs.run as job
from jobs.cli import main
from pipelines.storage import Workspace


def summary(level) -> dict:
    return {"metrics": {"test": {"all": {"recall@10": {"value": level}}}}, "baselines": {}}


@pytest.mark.parametrize(("code", "runs"), [(0, 3), (3, 3), (2, 1)])
def test_each_seed_is_a_run_of_its_own_and_one_that_fails_ends_it(tmp_path, monkeypatch, capsys, code, runs) -> None:
    commands = []

    def run(command, check):
        commands.append(command)
        out = tmp_path / "out" / f"seed-{6 + len(commands)}"
        out.mkdir(parents=True)
        (out / "summary.json").write_text(json.dumps(summary(0.1 * len(commands))))
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(job.subprocess, "run", run)
    ended = main(["run", "--seeds", "3", "--out", str(tmp_path / "out"), "--set", "training.epochs=1"])
    assert ended == (0 if runs == 3 else code)
    assert len(commands) == runs
    assert commands[0][-6:] == ["--set", "training.epochs=1", "--set", "seed=7", "--out", f"{tmp_path}/out/seed-7"]
    if runs == 3:
        assert "0.2000 ± 0.1000" in capsys.readouterr().out
        told = json.loads((tmp_path / "out" / "seeds.json").read_text())
        assert told["seeds"] == [7, 8, 9] and told["test"]["model"]["all"]["recall@10"]["mean"] == 0.2


def test_a_run_that_a_gate_refuses_before_its_results_ends_the_series_and_no_older_result_stands_in(
    tmp_path, monkeypatch
) -> None:
    out = tmp_path / "out"
    Workspace.open(str(out))
    (out / "seed-7").mkdir()
    (out / "seed-7" / "summary.json").write_text(json.dumps(summary(0.9)))
    monkeypatch.setattr(job.subprocess, "run", lambda command, check: SimpleNamespace(returncode=3))
    assert main(["run", "--seeds", "2", "--out", str(out)]) == 3
    assert not (out / "seeds.json").exists()


def test_a_series_of_runs_that_stop_early_is_refused(tmp_path, capsys) -> None:
    assert main(["run", "--seeds", "2", "--until", "write_records", "--out", str(tmp_path / "out")]) == 2
    assert "--seeds compares whole runs, got --until write_records" in capsys.readouterr().err


def test_one_seed_is_no_series(tmp_path, capsys) -> None:
    assert main(["run", "--seeds", "1", "--out", str(tmp_path / "out")]) == 2
    assert "--seeds must be at least 2, got 1; leave it out for one run" in capsys.readouterr().err
