"""The ablation job: its arguments, and that each training is done once."""

from types import SimpleNamespace

import numpy as np
import pytest

from jobs import ablate
from jobs.cli import main
from jobs.launch import execute
from pipelines.config import changed
from pipelines.errors import InputError, LeakageError
from pipelines.evaluation.intervals import Sample
from pipelines.storage import Workspace, write_file, write_json
from schemas.manifest import Manifest, TableEntry
from tests.pipelines.training.image_records import publish_images, spots


@pytest.fixture
def trainings(workspace, config, monkeypatch):
    """Records in the hand-made world, and a list of the trainings done: (dropout, seed, rows). None is real."""
    entries = {}
    path = workspace.stage("records", "k" * 64)
    for split in ("train", "validation"):
        shards = []
        for number in range(3):
            entry = write_file(path, f"{split}-{number}", bytes([number]))
            shards.append(entry.shards[0].model_copy(update={"rows": 10}))
        entries[split] = TableEntry(format="tfrecord", shards=tuple(shards))
    entries["encoder"] = write_json(path, "encoder.json", {})
    examples = workspace.current("examples").manifest.content_digest
    facts = {"audit": {"passed": True}}
    manifest = Manifest(
        dataset="records", tables=entries, facts=facts, seed=1, key="k" * 64, parents={"examples": examples}
    )
    workspace.publish(path, manifest)
    done = []

    def train(chosen, records, factors):
        done.append((chosen.model.preference_dropout, chosen.seed, records.manifest.tables["train"].rows))
        history = SimpleNamespace(best_epoch=1, to_json=lambda: {"epochs": []})
        return SimpleNamespace(scorer=chosen, history=history)

    def measure(data, split, rankers, options, seed):
        level = 0.1 * rankers["model"].model.preference_dropout
        row = {metric: Sample(level, np.full(5, level), 9) for metric in ("recall@2", "ndcg@10", "auc")}
        return SimpleNamespace(measured={"model": {"all": row, "cold_item": row}})

    monkeypatch.setattr(ablate, "train_towers", train)
    monkeypatch.setattr(ablate, "sample_split", measure)
    monkeypatch.setattr(ablate, "Towers", lambda scorer: scorer)
    return done


def asked(config, **ablation):
    return changed(config, {"ablation": {"vary": {"model.preference_dropout": [0.5, 1]}, "seeds": 2, **ablation}})


def test_each_training_is_done_once_however_often_a_run_is_stopped_or_widened(
    workspace, config, trainings, monkeypatch
) -> None:
    train = ablate.train_towers

    def stopped(*given):
        if len(trainings) == 3:
            raise KeyboardInterrupt
        return train(*given)

    monkeypatch.setattr(ablate, "train_towers", stopped)
    with pytest.raises(KeyboardInterrupt):
        execute(ablate.JOB, asked(config), workspace, None)
    assert workspace.current("ablation") is None  # nothing half-done
    # Half is the default: its value is a variant that is not trained again.
    assert [done[:2] for done in trainings] == [(0.5, 1), (1.0, 1), (0.5, 2)]
    monkeypatch.setattr(ablate, "train_towers", train)
    outcome = execute(ablate.JOB, asked(config), workspace, None)
    assert [done[:2] for done in trainings[3:]] == [(1.0, 2)]
    assert execute(ablate.JOB, asked(config), workspace, None).reused
    execute(ablate.JOB, asked(config, seeds=3), workspace, None)
    assert [done[:2] for done in trainings[4:]] == [(0.5, 3), (1.0, 3)]
    results = outcome.dataset.read_json("results")
    assert [row["is_default"] for row in results["variants"]] == [True, True, False]
    assert results["variants"][2]["differences"]["all"]["recall@2"]["value"] == 0.05
    assert (results["seeds"], results["split"]) == ([1, 2], "validation")


def test_fewer_shards_are_other_trainings(workspace, config, trainings) -> None:
    for shards in (None, 2, 3):
        execute(
            ablate.JOB, asked(config, seeds=1, train_shards=shards, vary={"model.missing": ["zero"]}), workspace, None
        )
    # All three shards are those of the first time.
    assert [rows for _, _, rows in trainings] == [30, 30, 20, 20]


def test_records_that_no_audit_has_passed_or_that_cannot_be_measured_on_are_refused(
    workspace, config, trainings
) -> None:
    records = workspace.current("records")
    tables = {**records.manifest.tables, "validation": TableEntry(format="tfrecord")}
    for update, error, message in (
        ({"facts": {}}, LeakageError, "must be of examples that passed the audit"),
        ({"tables": tables}, InputError, "needs validation rows to measure on, the records have none"),
    ):
        workspace.publish(records.path, records.manifest.model_copy(update=update))
        with pytest.raises(error, match=message):
            execute(ablate.JOB, asked(config), workspace, None)
    assert trainings == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "must have something to vary, got nothing; add --vary"),
        (
            ["--vary", "model.preference_dropout"],
            "--vary must look like a.b=value,value, got 'model.preference_dropout'",
        ),
        (["--vary", "model.preference_dropout="], "--vary must look like"),
        (["--variant", "softmax alone"], "--variant must look like 'NAME: a.b=value c.d=value', got 'softmax alone'"),
        (["--variant", "x: training.epochs"], "--variant must look like"),
        (["--vary", "labels.threshold=1,2"], "must be an option of `model`, `training` or `classifier`"),
        (
            ["--vary", "model.missing=zero", "--seeds", "0"],
            "`ablation.seeds`: Input should be greater than or equal to 1",
        ),
    ],
)
def test_what_cannot_be_varied_is_one_message(arguments, message, workspace, trainings, capsys) -> None:
    # The demo's configuration reads other data, but arguments are looked at first.
    assert main(["ablate", "--out", workspace.root, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert trainings == []


def test_arguments_add_up_to_what_a_configuration_says(workspace, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(ablate, "variants_of", lambda config: seen.append(config.ablation) or [])
    main(
        [
            "ablate", "--out", workspace.root, "--vary", "model.missing=zero",
            "--vary", "model.tower_units=[64],[32, 16]",
            "--variant", "a b: training.epochs=2 training.losses.in_batch=all", "--seeds", "3", "--train-shards", "1",
        ]
    )  # fmt: skip
    assert seen[0].vary == {"model.tower_units": ([64], [32, 16]), "model.missing": ("zero",)}
    assert seen[0].variants == {"a b": {"training.epochs": 2, "training.losses.in_batch": "all"}}
    assert (seen[0].seeds, seen[0].train_shards) == (3, 1)


def test_classifiers_are_ablated_on_image_records_paired_by_image_and_seed(tmp_path, config, capsys) -> None:
    workspace = Workspace.open(str(tmp_path / "images"))
    publish_images(workspace, {"train": spots(40), "validation": spots(30, 1), "test": spots(10, 2)})
    given = {
        "ablation": {"vary": {"classifier.schedule.learning_rate": [0.001, 1e-9]}, "seeds": 2},
        "classifier": {"epochs": 1, "batch_size": 8},
    }
    chosen = changed(config, given)
    found = execute(ablate.JOB, chosen, workspace, None).dataset
    results = found.read_json("results")
    default, same, hardly = results["variants"]
    assert same["is_default"] and same["metrics"] == default["metrics"]
    accuracy, loss = (default["metrics"]["all"][name] for name in ("accuracy", "log_loss"))
    assert (accuracy["value"], accuracy["n"]) == (1.0, 30) and loss["value"] < np.log(2)
    beside = hardly["differences"]["all"]["log_loss"]
    assert beside["value"] == pytest.approx(np.log(2) - loss["value"], abs=1e-3) and beside["low"] > 0
    assert (results["interval"], results["train_rows"]) == ("images and seeds", 40)
    assert "over images and seeds" in found.read_text("page")
    told = capsys.readouterr().err
    assert told.count("(found)") == 2 and "accuracy, all" in told
    # What the towers are trained with is no affair of a classifier's.
    execute(ablate.JOB, changed(chosen, {"training.epochs": 3}), workspace, None)
    assert capsys.readouterr().err.count("(found)") == 6
