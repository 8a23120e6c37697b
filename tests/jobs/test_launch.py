"""Running a job: resuming by key, exit codes, and that a failed job publishes nothing."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import cli, run
from jobs.launch import (
    CHAIN,
    JOBS,
    OPTIONAL,
    ROOT,
    SEARCH,
    Draft,
    Job,
    execute,
    guarded,
    job_dataset,
    job_named,
)
from pipelines.code import code_version
from pipelines.config import parse_config
from pipelines.errors import (
    ConfigError,
    CorruptDatasetError,
    LeakageError,
    PromotionError,
    TrackingError,
    WorkspaceError,
)
from pipelines.storage import Workspace, write_json

MOVIELENS = ["--config", str(ROOT / "conf" / "movielens.yaml")]
LOG = {"path": "log.csv", "user_id": "user", "item_id": "item", "event_time": {"column": "at"}}
RAW = {
    "name": "x", "seed": 1, "labels": {"rule": "sampled", "positive_actions": ["click"]},
    "source": {"interactions": [LOG]},
}  # fmt: skip


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


def test_what_could_not_be_registered_is_kept_and_the_same_command_only_registers_it(workspace, capsys) -> None:
    runs, registered = [], []

    def register(context, dataset):
        registered.append((context.config.name, dataset.read_json("n")))
        if len(registered) == 1:
            raise TrackingError("away")
        return {"run_id": "r", "version": "3"}

    job = counting_job(runs, register=register)
    with pytest.raises(TrackingError, match="away"):
        execute(job, config(), workspace, None)
    assert "what count made is kept; the same command, without --force, registers it" in capsys.readouterr().err
    kept = workspace.current("counts")
    for _ in range(2):
        found = execute(job, config(), workspace, None)
        assert found.reused and found.dataset.manifest.notes == {"run_id": "r", "version": "3"}
    assert (len(runs), registered) == (1, [("x", 0)] * 2)
    now = workspace.current("counts")
    assert now == found.dataset and now.path == kept.path
    assert now.manifest.content_digest == kept.manifest.content_digest


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


def test_what_is_pinned_is_looked_up_once_and_is_what_the_run_its_key_and_its_manifest_know(workspace) -> None:
    stands_for, asked, runs = [2], [], []

    def pinned(config, workspace):
        asked.append(config)
        return config.model_copy(update={"training": config.training.model_copy(update={"epochs": stands_for[0]})})

    job = counting_job(runs, pinned=pinned)
    first = execute(job, config(), workspace, None)
    assert (runs, len(asked), first.dataset.manifest.config["training"]["epochs"]) == ([2], 1, 2)
    assert execute(job, config(), workspace, None).reused
    stands_for[0] = 3
    execute(job, config(), workspace, None)
    assert runs == [2, 3]


def test_a_changed_parent_reruns_the_child(workspace) -> None:
    parents, children = [], []
    child = counting_job(children, name="child", dataset="children", parents=("counts",), sections=())
    for seed in (1, 1, 2):
        execute(counting_job(parents), config(seed=seed), workspace, None)
        execute(child, config(seed=1), workspace, None)
    assert (len(parents), len(children)) == (2, 2)


def grown(workspace, *seeds):
    """A root, and two datasets made of it, each when the root had the seed given for it."""
    for name, seed in zip(("left", "right"), seeds, strict=True):
        execute(counting_job([]), config(seed=seed), workspace, None)
        job = counting_job([], name=name, dataset=name, parents=("counts",), sections=("labels",))
        execute(job, config(), workspace, None)


def test_a_manifest_names_all_that_a_dataset_was_made_from(workspace) -> None:
    grown(workspace, 1, 1)
    both = counting_job([], name="both", dataset="both", parents=("left",))
    found = execute(both, config(), workspace, None).dataset.manifest.parents
    assert found == {name: workspace.current(name).manifest.content_digest for name in ("counts", "left")}


def test_datasets_made_from_different_data_are_not_read_together(workspace) -> None:
    grown(workspace, 1, 2)
    job = counting_job([], parents=("left", "right"), dataset="both")
    with pytest.raises(WorkspaceError, match=r"`left` was made from `counts`.*run `thaw left` again"):
        execute(job, config(), workspace, None)
    execute(replace(job, one_lineage=False), config(), workspace, None)
    grown(workspace, 2, 1)  # the root is of 1 now: it is the left that is stale, wherever it is named
    for order in (("left", "right"), ("right", "left")):
        with pytest.raises(WorkspaceError, match=r"`left` was made from `counts`.*run `thaw left` again"):
            execute(replace(job, parents=order), config(), workspace, None)
    grown(workspace, 2, 2)
    execute(job, config(), workspace, None)


def test_a_parent_made_with_another_meaning_of_the_data_is_refused(workspace) -> None:
    grown(workspace, 1, 1)
    other = {"rule": "sampled", "positive_actions": ["buy"]}
    with pytest.raises(WorkspaceError, match="`left` was made with another `labels` section"):
        execute(counting_job([], parents=("left",), dataset="both"), config(labels=other), workspace, None)


def test_a_parent_that_a_job_can_do_without_is_left_out_where_it_is_missing_or_of_other_data(workspace, capsys) -> None:
    seen = []

    def run(context):
        seen.append(sorted(context.parents))
        return Draft(tables={"n": write_json(context.staging, "n.json", 1)})

    job = counting_job([], parents=("left", "right"), dataset="both", run=run)
    allowed = replace(job, optional=lambda config: ("right",) if config.training.allow_unaudited else ())
    trial = config(training={"allow_unaudited": True})
    execute(counting_job([]), config(), workspace, None)
    execute(counting_job([], name="left", dataset="left", parents=("counts",)), config(), workspace, None)
    with pytest.raises(WorkspaceError, match="needs the dataset `right`"):
        execute(allowed, config(), workspace, None)
    execute(allowed, trial, workspace, None)
    grown(workspace, 1, 2)
    execute(allowed, trial, workspace, None, force=True)
    assert "note: `right` was made from other data and is left out; run `thaw right` again" in capsys.readouterr().err
    grown(workspace, 2, 2)
    execute(allowed, trial, workspace, None)
    assert seen == [["left"], ["left"], ["left", "right"]]
    execute(counting_job([], name="right", dataset="right", parents=("counts", "left")), config(), workspace, None)
    execute(counting_job([], name="left", dataset="left", parents=("counts",)), config(seed=5), workspace, None)
    execute(allowed, trial, workspace, None)
    assert seen[3] == ["left"]  # of the same root, but of another left


def test_a_damaged_dataset_is_made_again_and_never_read(workspace) -> None:
    runs = []
    made = execute(counting_job(runs), config(), workspace, None).dataset
    (Path(made.path) / "n.json").unlink()
    with pytest.raises(CorruptDatasetError, match=r"n\.json is missing"):
        execute(counting_job([], parents=("counts",), dataset="child"), config(), workspace, None)
    execute(counting_job(runs), config(), workspace, None)
    assert len(runs) == 2
    workspace.current("counts").verify()


def test_a_forced_run_that_fails_leaves_what_was_published(workspace) -> None:
    def fail(context):
        raise LeakageError("found the future")

    made = execute(counting_job([]), config(), workspace, None)
    with pytest.raises(LeakageError):
        execute(counting_job([], run=fail), config(), workspace, None, force=True)
    assert workspace.current("counts").manifest == made.dataset.manifest
    workspace.current("counts").verify()


def test_credentials_stay_out_of_manifests(workspace) -> None:
    secret = {"tracking": {"uri": "https://me:hush@server/"}, "spark": {"settings": {"x.secret.key": "hush"}}}
    job = counting_job([], sections=("tracking", "spark"))
    made = execute(job, config(**secret), workspace, None).dataset
    assert "server" in made.manifest.to_json()
    assert "hush" not in made.manifest.to_json()


@pytest.mark.parametrize("failing", ["promote_model", "recommend"])
def test_what_fails_after_the_evaluation_does_not_cost_the_report(failing, workspace, monkeypatch, capsys) -> None:
    concluded = []

    def pretend(job, config, workspace, data, *, force):
        if job.name == failing:
            raise PromotionError("version 2 stays challenger")
        return execute(counting_job([], dataset=job.dataset), config, workspace, data, force=force)

    monkeypatch.setattr(run, "execute", pretend)
    monkeypatch.setattr(run, "_start_spark", lambda config: None)
    monkeypatch.setattr(run, "conclude", lambda config, workspace, seconds: concluded.append(list(seconds)))
    monkeypatch.setattr("pipelines.spark.stop_spark", lambda: None)  # other tests go on with this session
    assert run.run_chain(config(), workspace, None) == 3
    assert concluded == [list(CHAIN[1:])]
    assert "thaw: version 2 stays challenger" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(OPTIONAL))
def test_a_schedule_may_ask_any_configuration_for_a_job_that_not_all_need(name, tmp_path, capsys) -> None:
    assert cli.main([name, *MOVIELENS, "--out", str(tmp_path / "out"), "--if-configured", "--set", "factors=null"]) == 0
    assert f"{name}: the configuration does not ask for it, there is nothing to do" in capsys.readouterr().err


def test_a_job_that_the_configuration_asks_for_is_run(tmp_path, capsys) -> None:
    asked = ["compute_factors", *MOVIELENS, "--out", str(tmp_path / "out"), "--if-configured"]
    assert cli.main([*asked, "--set", "factors={rank: 2}"]) == 2
    assert "compute_factors needs the dataset `clean`" in capsys.readouterr().err


PICTURED = {
    "source": {
        "interactions": [LOG],
        "items": [{"dataset": "content_vectors", "columns": {"image": {"kind": "vector", "column": "vector"}}}],
    },
    "images": {"sources": [{"path": "p"}], "height": 2, "width": 2},
}


def test_a_run_makes_factors_and_vectors_of_images_where_the_configuration_has_them(workspace, monkeypatch) -> None:
    made = []

    def stop(job, config, workspace, data, *, force):
        made.append(job.name)
        if job.name == "build_examples":
            raise WorkspaceError("far enough")
        return execute(counting_job([], dataset=job.dataset), config, workspace, data, force=force)

    def made_by(**changes):
        made.clear()
        with pytest.raises(WorkspaceError):
            run.run_chain(config(**changes), workspace, None)
        return made[:-1]

    monkeypatch.setattr(run, "execute", stop)
    monkeypatch.setattr(run, "_start_spark", lambda config: None)
    plain = ["check_quality", "compute_preferences"]
    assert made_by() == plain
    assert made_by(factors={"rank": 2}) == [*plain, "compute_factors"]
    images = ["write_image_records", "train_classifier", "embed_content"]
    assert made_by(**PICTURED) == [*images, *plain]
    named = {**PICTURED["images"], "embed": {"model": "encoder.keras"}}
    assert made_by(**{**PICTURED, "images": named}) == ["embed_content", *plain]


def test_a_run_of_images_alone_is_refused_at_once_and_told_what_trains_on_them(tmp_path, capsys) -> None:
    images = ["run", "--config", str(ROOT / "conf" / "fashion_mnist.yaml"), "--out", str(tmp_path / "out")]
    assert cli.main(images) == 2
    said = capsys.readouterr().err
    assert "source.interactions must name at least one log" in said
    assert "`thaw write_image_records`, `thaw train_classifier` or `thaw search`" in said
    assert "[1/" not in said
    assert cli.main(["run", *MOVIELENS, "--set", "source.interactions=[]", "--out", str(tmp_path / "out")]) == 2
    assert "must name at least one log where `thaw run` ranks items, got none" in (said := capsys.readouterr().err)
    assert "train_classifier" not in said


def test_data_without_a_configuration_is_read_by_the_demos_and_that_is_said(tmp_path, capsys) -> None:
    (tmp_path / "mine").mkdir()
    asked = ["write_image_records", "--data", str(tmp_path / "mine"), "--out", str(tmp_path / "out")]
    assert cli.main(asked) == 2
    assert f"note: no --config: conf/demo.yaml says what there is in {tmp_path}/mine" in capsys.readouterr().err
    assert cli.main([*asked, "--config", str(ROOT / "conf" / "cifar10.yaml")]) == 2
    assert "no --config" not in capsys.readouterr().err


def test_a_missing_parent_names_the_job_that_makes_it(workspace) -> None:
    with pytest.raises(WorkspaceError, match="run `thaw build_examples` first"):
        execute(counting_job([], parents=("examples",)), config(), workspace, None)


@pytest.mark.parametrize("error", [LeakageError, RuntimeError, KeyboardInterrupt])
def test_a_job_that_fails_or_is_interrupted_publishes_nothing_and_removes_what_it_had_staged(error, workspace) -> None:
    def fail(context):
        write_json(context.staging, "half.json", 1)
        raise error

    with pytest.raises(error):
        execute(counting_job([], run=fail), config(), workspace, None)
    assert workspace.current("counts") is None
    assert list(Path(workspace.root, "counts").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("c"), 2), (WorkspaceError("w"), 2), (LeakageError("l"), 3), (RuntimeError("r"), 1)]
)
def test_exit_codes_tell_whose_fault_it_is(error, code, capsys) -> None:
    def action() -> int:
        raise error

    assert guarded(action) == code
    assert ("Traceback" in capsys.readouterr().err) == (code == 1)


def test_every_job_exists_and_publishes_what_the_launcher_says() -> None:
    for name in JOBS:
        job = job_named(name)
        assert (job.name, job.dataset) == (name, job_dataset(name))
        assert set(job.sections) <= set(type(config()).model_fields)
        # The search settles its configuration by itself.
        entry = "main()" if name == SEARCH else "main(JOB)"
        assert Path(f"jobs/{name}.py").read_text().rstrip().endswith(f"sys.exit({entry})")


def test_the_code_version_is_stable_within_a_process() -> None:
    assert code_version() == code_version()
    assert len(code_version()) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "unknown command 'runn'"),
        (["run", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "--data", "no/such/folder"], "--data must be a folder, 'no/such/folder' is not; check the path"),
        (
            ["run", "--data", "foo://x"],
            "--data must be an address that can be reached, foo://x cannot be (Protocol not",
        ),
        (["run", "--data", "memory://nothing"], "--data must be a folder, nothing is at memory://nothing"),
        (["check_quality", "--data", __file__], "test_launch.py' is not; check the path"),
        (["check_quality", *MOVIELENS], "check_quality reads raw data; say where it is with --data FOLDER"),
        (["run", "--set", "source.items=[{path: a, id: b, columns: {title: {kind: text}}}]"], "called ['title']"),
        (["run", "--set", "source.items=[{path: a, id: b, columns: {a/b: {kind: text}}}]"], "a/b"),
        (["run", "--set", "preferences.statistics=[{name: a, kind: sum}, {name: A, kind: sum}]"], "item_a_sum_1d"),
        (["run", "--set", "preferences.windows=[7d, 7d]"], "['7d'] is there twice"),
        (["run", "--set", "preferences.windows=[-1d]"], "longer than zero, such as 7d, or `lifetime`; got '-1d'"),
        (["run", "--set", "preferences.windows=[0d]"], "longer than zero, such as 7d, or `lifetime`; got '0d'"),
        (["run", "--set", "features.max_missing_share={item_prise: 0.5}"], "did you mean `item_price`?"),
        (["run", "--set", "features.max_drft=3"], "did you mean `max_drift`?"),
        (["run", "--set", "preferences.entities=[]"], "preferences.entities"),
        (["run", "--set", "name=My Shop/1"], "`name`"),
        (["run", "--set", "seed=-1"], "`seed`"),
        (["run", "--set", "evaluation.ks=[]"], "evaluation.ks"),
        (["run", "--set", "model.tower_units=[0]"], "model.tower_units"),
        (["run", "--set", "demo.start=soon"], "demo.start"),
        (["run", "--set", "tracking.model_name=a/b"], "tracking.model_name"),
        (["run", "--set", "source.items=[{path: a, id: b, encoding: cp1252}]"], "one that Spark reads (UTF-8, "),
        (["run", "--set", "trainin.epochs=1"], "unknown configuration key `trainin`; did you mean `training`?"),
        (["run", "--set", "quality.actions=[click"], "--set quality.actions must be YAML, got '[click'"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("THAW_DATA", raising=False)
    out = [] if arguments == ["runn"] else ["--out", str(tmp_path / "out")]
    assert cli.main([*arguments, *out]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("thaw: ") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("command", ["run", "generate_demo"])
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("theirs", "--out must be empty or made by Thaw, {out} holds something else; choose another folder"),
        ("theirs/thesis.txt", "--out must be a folder, {out} is a file; choose another"),
        ("foo://x", "--out must be a folder or an address that can be opened, foo://x cannot be (Protocol not known"),
        ("theirs/thesis.txt/out", "--out must be a folder that can be written, {out} cannot be (Not a directory)"),
    ],
)
def test_an_output_that_holds_something_else_is_refused_and_left_alone(command, out, message, capsys, tmp_path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("mine")
    assert cli.main([command, "--out", out if "://" in out else str(tmp_path / out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("thaw: " + message.format(out=tmp_path / out))
    assert len(said.splitlines()) == 1
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["thesis.txt"]
    assert (tmp_path / "theirs" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", [name for name in CHAIN if name not in ("generate_demo", "check_quality")])
def test_a_job_run_before_its_parent_dataset_exists_names_the_job_to_run_first(name, capsys, tmp_path) -> None:
    parent = job_named(name).parents[0]
    maker = next(other for other in CHAIN if job_dataset(other) == parent)
    assert cli.main([name, *MOVIELENS, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"thaw: {name} needs the dataset `{parent}`, which is not there; run `thaw {maker}` first\n" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / job_dataset(name)).exists()


def test_spark_submit_ends_with_the_jobs_own_message_and_exit_code(tmp_path) -> None:
    submit = Path(sys.executable).with_name("spark-submit")
    job = ["jobs/compute_preferences.py", *MOVIELENS, "--out", str(tmp_path / "out")]
    done = subprocess.run([submit, "--master", "local[1]", *job], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    said = done.stdout + done.stderr  # spark-submit puts what Python says on its own standard output
    assert "thaw: compute_preferences needs the dataset `clean`, which is not there; run `thaw check_quality` " in said
    assert "Traceback" not in said
    assert "Exception" not in said


def test_help_names_every_job(capsys) -> None:
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in CHAIN)


def test_a_published_manifest_is_json_with_its_digest(workspace) -> None:
    outcome = execute(counting_job([]), config(), workspace, None)
    raw = json.loads((Path(outcome.dataset.path) / "manifest.json").read_text())
    assert raw["content_digest"] == outcome.dataset.manifest.content_digest
