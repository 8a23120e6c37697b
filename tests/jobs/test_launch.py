"""Running a job: resuming by key, exit codes, and that a failed job publishes nothing."""

import json
from pathlib import Path

import pytest

from jobs import cli
from jobs.launch import CHAIN, Draft, Job, code_version, execute, guarded, job_dataset
from pipelines.config import parse_config
from pipelines.errors import ConfigError, LeakageError, WorkspaceError
from pipelines.storage import Workspace, write_json

RAW = {"name": "x", "seed": 1, "labels": {"rule": "sampled", "positive_actions": ["click"]}}


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(str(tmp_path / "out"))


def counting_job(runs, **changes):
    def run(context):
        runs.append(context.config.training.epochs)
        return Draft(tables={"n": write_json(context.staging, "n.json", len(context.parents))})

    return Job(
        **{"name": "count", "dataset": "counts", "parents": (), "sections": ("training",), "run": run, **changes}
    )


def config(**changes):
    return parse_config({**RAW, **changes})


def test_a_job_whose_inputs_have_not_changed_is_not_run_again(workspace) -> None:
    runs = []
    first = execute(counting_job(runs), config(), workspace, None)
    again = execute(counting_job(runs), config(), workspace, None)
    assert (len(runs), first.reused, again.reused) == (1, False, True)
    assert first.dataset.manifest == again.dataset.manifest


def test_a_section_that_matters_reruns_the_job_and_another_does_not(workspace) -> None:
    runs = []
    execute(counting_job(runs), config(), workspace, None)
    execute(counting_job(runs), config(recommend={"k": 3}), workspace, None)
    assert len(runs) == 1
    execute(counting_job(runs), config(training={"epochs": 2}), workspace, None)
    execute(counting_job(runs), config(seed=2), workspace, None)
    assert len(runs) == 3


def test_going_back_to_an_earlier_configuration_makes_that_version_current_again(workspace) -> None:
    runs = []
    first = execute(counting_job(runs), config(), workspace, None)
    execute(counting_job(runs), config(seed=2), workspace, None)
    execute(counting_job(runs), config(), workspace, None)
    assert len(runs) == 2
    assert workspace.current("counts").manifest == first.dataset.manifest


def test_a_changed_parent_reruns_the_child(workspace) -> None:
    parents, children = [], []
    child = counting_job(children, name="child", dataset="children", parents=("counts",), sections=())
    for seed in (1, 1, 2):
        execute(counting_job(parents), config(seed=seed), workspace, None)
        execute(child, config(seed=1), workspace, None)
    assert (len(parents), len(children)) == (2, 2)


def test_a_missing_parent_names_the_job_that_makes_it(workspace) -> None:
    with pytest.raises(WorkspaceError, match="run `thaw build_examples` first"):
        execute(counting_job([], parents=("examples",)), config(), workspace, None)


def test_a_job_that_fails_publishes_nothing(workspace) -> None:
    def fail(context):
        write_json(context.staging, "half.json", 1)
        raise LeakageError("found the future")

    with pytest.raises(LeakageError):
        execute(counting_job([], run=fail), config(), workspace, None)
    assert workspace.current("counts") is None


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("c"), 2), (WorkspaceError("w"), 2), (LeakageError("l"), 3), (RuntimeError("r"), 1)]
)
def test_exit_codes_tell_whose_fault_it_is(error, code, capsys) -> None:
    def action() -> int:
        raise error

    assert guarded(action) == code
    assert ("Traceback" in capsys.readouterr().err) == (code == 1)


def test_every_job_of_the_chain_exists_and_publishes_what_the_launcher_says() -> None:
    from jobs.launch import job_named

    for name in CHAIN:
        job = job_named(name)
        assert (job.name, job.dataset) == (name, job_dataset(name))
        assert set(job.sections) <= set(type(config()).model_fields)
        assert Path(f"jobs/{name}.py").read_text().rstrip().endswith("sys.exit(main(JOB))")


def test_the_code_version_is_stable_within_a_process() -> None:
    assert code_version() == code_version()
    assert len(code_version()) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "unknown command 'runn'"),
        (["run", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "--data", "no/such/folder"], "--data must be a folder"),
        (["run", "--set", "trainin.epochs=1"], "did you mean `training`"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(arguments, message, capsys, tmp_path) -> None:
    out = [] if arguments == ["runn"] else ["--out", str(tmp_path / "out")]
    assert cli.main([*arguments, *out]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_help_names_every_job(capsys) -> None:
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in CHAIN)


def test_a_published_manifest_is_json_with_its_digest(workspace) -> None:
    outcome = execute(counting_job([]), config(), workspace, None)
    raw = json.loads((Path(outcome.dataset.path) / "manifest.json").read_text())
    assert raw["content_digest"] == outcome.dataset.manifest.content_digest
