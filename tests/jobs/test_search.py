"""The search job: its arguments, that each trial is made once, what is tracked, and what follows it."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from jobs import search
from jobs.cli import main
from jobs.launch import execute
from pipelines.config import changed, load_config, parse_config
from pipelines.errors import ConfigError, InputError
from pipelines.search.space import spaces
from pipelines.search.trial import Fit, GivenUpError
from pipelines.storage import Workspace
from pipelines.training.history import Epoch
from tests.pipelines.training.image_records import publish_images, spots

SPLITS = {"train": spots(40), "validation": spots(10, 1), "test": spots(10, 2)}
RAW = {
    "name": "spots",
    "seed": 1,
    "images": {"sources": [{"path": "x"}], "height": 4, "width": 4, "channels": 1},
    "search": {"families": ["nearest", "linear"], "trials": 3, "epochs": 2, "neighbours": [1, 3]},
}


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace.open(str(tmp_path / "out"))
    publish_images(workspace, SPLITS)
    yield workspace
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def untracked(monkeypatch):
    """Without MLflow."""

    @contextmanager
    def tracked(config, root, key):
        yield SimpleNamespace(run_id="r", log_trial=lambda *given: None, log_texts=lambda *given: None)

    monkeypatch.setattr(search, "tracked_search", tracked)


@pytest.fixture
def fits(monkeypatch):
    """A list of the rates that were trained; a rate near 0.001 is best."""
    done, models = [], {}

    def fit(options, folds, classes, *, seed, on_epoch):
        from pipelines.models.classifier import build_classifier

        done.append(options.schedule.learning_rate)
        if options.family not in models:
            models[options.family] = build_classifier(options, folds[0].train.inputs, len(classes), seed=seed)
        return Fit(models[options.family], (1 / (1 + abs(np.log10(done[-1]) + 3)),), 1)

    monkeypatch.setattr(search, "fit", fit)
    monkeypatch.setattr(search, "images_per_s", lambda saved, images: 1.0)
    # It collects garbage, which takes longer than all else.
    monkeypatch.setattr("keras.utils.clear_session", lambda: None)
    return done


def test_a_search_that_was_stopped_goes_on_in_the_same_run_and_trains_nothing_twice(workspace, monkeypatch) -> None:
    config, fit, done = parse_config(RAW), search.fit, []

    def stopped(*given, **named):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        return fit(*given, **named)

    monkeypatch.setattr(search, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        execute(search.JOB, config, workspace, None)
    assert workspace.current("search") is None
    monkeypatch.setattr(search, "fit", lambda *given, **named: done.append(2) or fit(*given, **named))
    found = execute(search.JOB, config, workspace, None).dataset
    assert done == [1, 2]
    results = found.read_json("results")
    assert [trial["family"] for trial in results["trials"]] == ["nearest", "linear", "linear"]
    assert all(len(trial["history"]) == 2 for trial in results["trials"][1:])
    assert {final["family"] for final in results["finals"]} <= {"nearest", "linear"}
    assert "minutes" not in results["finals"][0] or results["finals"][0]["minutes"] is None

    client = MlflowClient(f"sqlite:///{workspace.root}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("thaw").experiment_id])
    (parent,) = [run for run in runs if search_tag(run)]
    assert parent.info.status == "FINISHED" and parent.info.run_id == found.manifest.notes["run_id"]
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(nested) == 3
    linear = next(run for run in nested if run.info.run_name == "002 linear")
    assert float(linear.data.params["schedule.learning_rate"]) == 0.001
    history = client.get_metric_history(linear.info.run_id, "epoch/validation_accuracy")
    assert [entry.step for entry in history] == [1, 2] and linear.data.metrics["multiply_adds"] == 32
    folder = client.download_artifacts(parent.info.run_id, search.PAGE)
    shown = Path(folder).read_text(encoding="utf-8")
    assert "L2 distance, accuracy over k" in shown and "No test image was looked at" in shown


def search_tag(run) -> bool:
    return "thaw.search" in run.data.tags


def test_equal_seeds_make_equal_searches_and_more_trials_begin_with_the_same(
    workspace, untracked, fits, tmp_path
) -> None:
    config = parse_config(RAW)
    first = execute(search.JOB, config, workspace, None).dataset
    other = Workspace.open(str(tmp_path / "other"))
    publish_images(other, SPLITS)
    assert execute(search.JOB, config, other, None).dataset.manifest.content_digest == first.manifest.content_digest
    assert fits[:2] == fits[2:]
    more = execute(search.JOB, changed(config, {"search.trials": 5}), workspace, None).dataset
    assert len(fits) == 6  # two more
    assert more.read_json("results")["trials"][:3] == first.read_json("results")["trials"]
    assert execute(search.JOB, changed(config, {"search.trials": 5}), workspace, None).reused


def test_a_trial_that_diverges_is_given_up_and_ends_nothing(workspace, untracked, monkeypatch) -> None:
    def diverging(*given, **named):
        raise InputError("the loss must stay finite, got nan in epoch 1")

    monkeypatch.setattr("pipelines.search.trial.train_network", diverging)
    results = execute(search.JOB, parse_config(RAW), workspace, None).dataset.read_json("results")
    assert [trial["state"] for trial in results["trials"]] == ["complete", "given up", "given up"]
    assert results["trials"][1]["why"] == "the loss stopped being finite"
    assert [final["family"] for final in results["finals"]] == ["nearest"]


def test_a_search_by_hyperband_that_goes_on_gives_up_the_same_trials(
    workspace, untracked, fits, monkeypatch, tmp_path
) -> None:
    made = search.fit

    def fit(options, folds, classes, *, seed, on_epoch):
        for number in range(1, options.epochs + 1):
            # Some start well and end badly, and the other way round.
            accuracy = 0.5 + 0.04 * (number - 4) * np.sin(1e4 * options.schedule.learning_rate)
            if on_epoch(Epoch(number, {"validation_accuracy": accuracy}, 1.0, 0.0)):
                raise GivenUpError(f"after epoch {number}")
        return made(options, folds, classes, seed=seed, on_epoch=on_epoch)

    monkeypatch.setattr(search, "fit", fit)
    more = {"families": ["linear"], "trials": 8, "epochs": 9, "pruner": "hyperband"}
    config = parse_config({**RAW, "search": more})
    other = Workspace.open(str(tmp_path / "other"))
    publish_images(other, SPLITS)
    whole = execute(search.JOB, config, other, None).dataset.read_json("results")["trials"]
    execute(search.JOB, changed(config, {"search.trials": 4}), workspace, None)
    gone_on = execute(search.JOB, config, workspace, None).dataset.read_json("results")["trials"]
    assert gone_on == whole
    assert any(trial["state"] == "given up" for trial in whole[4:])


def test_a_trial_that_its_time_cuts_short_is_told(workspace, untracked, fits, monkeypatch, capsys) -> None:
    made = search.fit

    def fit(options, *given, on_epoch, **named):
        for number in range(1, 1 + (1 if options.family == "linear" else 4)):
            on_epoch(Epoch(number, {"validation_accuracy": 0.5}, 1.0, 0.0))
        return made(options, *given, on_epoch=on_epoch, **named)

    monkeypatch.setattr(search, "fit", fit)
    few = {"families": ["linear", "two_layer"], "trials": 3, "epochs": 6, "pruner": "none"}
    execute(search.JOB, parse_config({**RAW, "search": few}), workspace, None)
    told = capsys.readouterr().err
    assert "s, time for 1 of 6 epochs)" in told and "s, time for 4 of 6 epochs)" in told
    assert "note: no time was left for more than an epoch of linear, whose accuracy says little" in told


def test_without_validation_images_the_best_in_folds_is_trained_alone_and_not_judged(
    tmp_path, untracked, fits, monkeypatch, capsys
) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    publish_images(workspace, {**SPLITS, "validation": spots(0)})
    raw = {**RAW["search"], "folds": 2, "families": ["linear", "plain"], "trials": 2}
    really, ran = search.execute, []

    def run(job, config, space, data, *, force=False):
        ran.append(job.name)
        if job.name == "search":
            return really(job, config, space, data, force=force)
        notes = {"name": "spots", "version": "1"}
        manifest = SimpleNamespace(facts={"best": {}}, notes=notes, seconds=1.0, tables={}, content_digest="d" * 64)
        return SimpleNamespace(dataset=SimpleNamespace(manifest=manifest, path="p"), reused=False, seconds=1.0)

    monkeypatch.setattr(search, "execute", run)
    assert search.search(parse_config({**RAW, "search": raw}), workspace, None) == 0
    assert ran == ["search", "train_classifier"]
    told = capsys.readouterr()
    assert "note: there are no validation images to compare last trainings by: linear, the best" in told.err
    assert "trained to the end: linear, no validation images" in told.out
    assert "registered: models:/spots/1" in told.out and "# the best options" in told.out


def test_the_better_of_the_last_trainings_is_the_current_one_and_judged_on_validation(
    tmp_path, monkeypatch, capsys
) -> None:
    ran, pointed, aliased = [], [], []
    accuracies = {"linear": 0.9, "mobilenet_v2": 0.8}
    finals = [{"family": name, "epochs": 4, "minutes": 1.5} for name in ("linear", "mobilenet_v2")]
    trial = {"number": 1, "family": "linear", "state": "complete", "accuracy": 0.5, "accuracies": [0.5], "history": []}
    trial |= {"changes": {"family": "linear"}, "parameters": 3, "multiply_adds": 2, "bytes": 9}
    results = {"trials": [trial], "finals": finals, "best": 1, "neighbours": [], "classes": 2}
    results |= {"images": {"train": 9, "held": 3, "folds": 1}}

    def run(job, config, space, data, *, force=False):
        family = config.classifier.family
        ran.append((job.name, family, config.classifier_evaluation.split))
        facts = {"best": {"validation_accuracy": accuracies[family]}}
        notes = {"name": "spots", "version": str(len(ran)), "speeds": {"1": {"cpu_s": 1, "images_per_s": 5}}}
        manifest = SimpleNamespace(facts=facts, notes=notes, seconds=1.0, tables={}, content_digest="d" * 64)
        dataset = SimpleNamespace(manifest=manifest, path="p", read_json=lambda name: results)
        return SimpleNamespace(dataset=dataset, reused=False, seconds=1.0)

    monkeypatch.setattr(search, "execute", run)
    monkeypatch.setattr(Workspace, "point", lambda self, dataset: pointed.append(dataset))
    monkeypatch.setattr(search, "make_challenger", lambda config, root, name, version: aliased.append(version))
    config = parse_config({**RAW, "classifier_evaluation": {"split": "test"}})
    workspace = Workspace.open(str(tmp_path / "out"))
    assert search.search(config, workspace, None) == 0
    assert ran == [
        ("search", "linear", "test"),
        ("train_classifier", "linear", "test"),
        ("train_classifier", "mobilenet_v2", "test"),
        ("evaluate_classifier", "linear", "validation"),
    ]
    assert aliased == ["2"] and len(pointed) == 1
    told = capsys.readouterr().out
    assert "registered: models:/spots/2" in told and "classifier:\n  family: linear\n" in told
    assert "mobilenet_v2, validation accuracy 0.8000" in told
    settled = f"{workspace.root}/search.yaml"
    assert f"thaw evaluate_classifier --config {settled} --out {workspace.root} --split test" in told
    best = load_config([settled])
    assert best.images == config.images
    assert (best.classifier.family, best.classifier.epochs, best.classifier.minutes) == ("linear", 4, None)
    assert "Thaw search" in Path(workspace.root, search.PAGE).read_text(encoding="utf-8")


def test_what_cannot_be_searched_is_one_message(workspace, untracked, tmp_path, monkeypatch, capsys) -> None:
    with pytest.raises(ConfigError, match="a search must have an end, got neither"):
        search.search(changed(parse_config(RAW), {"search.trials": None}), workspace, "not looked at")
    with pytest.raises(ConfigError, match="a search must have an end, got neither"):
        execute(search.JOB, changed(parse_config(RAW), {"search.trials": None}), workspace, None)
    publish_images(workspace, {split: (i, p, np.zeros_like(n)) for split, (i, p, n) in SPLITS.items()}, classes=("a",))
    with pytest.raises(InputError, match=r"at least two classes, got \['a'\]; name the folder"):
        execute(search.JOB, parse_config(RAW), workspace, None)
    monkeypatch.delenv("THAW_DATA", raising=False)
    empty, out = tmp_path / "empty", str(tmp_path / "new")
    empty.mkdir()
    for arguments, message in (
        (["--minutes", "5"], "must know its images, got neither --data nor --config"),
        (["--data", str(empty), "--minutes", "5"], "must hold a folder for each class"),
        (["--data", str(tmp_path / "nowhere"), "--minutes", "5"], "--data must be a folder"),
    ):
        assert main(["search", "--out", out, *arguments]) == 2
        assert message in capsys.readouterr().err
    for name in ("cat", "dog"):
        (empty / name).mkdir()
        Image.new("L", (4, 4)).save(empty / name / "1.png")
    assert main(["search", "--out", out, "--data", str(empty), "--minutes", "0"]) == 2
    assert "`search.minutes`: Input should be greater than 0" in capsys.readouterr().err


def test_each_option_of_a_trial_is_told_by_a_name_of_its_own() -> None:
    families = parse_config({**RAW, "search": {"trials": 1}})
    for family, space in spaces(families, 28, 2).items():
        keys = [key for key in {**space.fixed, **space.usual, **space.varies} if key not in search._UNSAID]
        assert len({search._named(key) for key in keys}) == len(keys), family
    assert [search._named(key) for key in ("width", "schedule.name", "loss.name", "augment.crop")] == [
        "width", "schedule", "loss", "crop",
    ]  # fmt: skip
