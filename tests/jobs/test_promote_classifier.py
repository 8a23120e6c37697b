"""The gate on classifiers made by hand: challenger and champion are measured on the same validation images, now."""

from pathlib import Path

import pytest

import jobs.decided as decision
import jobs.promote_classifier as job
from jobs.launch import execute
from pipelines.errors import PromotionError, WorkspaceError
from pipelines.evaluation.classifier_page import write_page
from pipelines.tracking.registered import Registered
from tests.jobs.classifiers import config, knowing, publish, records_in, write_images


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return records_in(folder / "out", write_images(folder / "data"))


@pytest.fixture
def gate(workspace, monkeypatch, tmp_path):
    """(challenger, champion) -> what the job published; versions that became champion are in `gate.crowned`."""

    def meet(challenger, champion=None, trained_on=None):
        records = workspace.current("image_records").manifest.content_digest
        if champion is not None:
            champion.save(str(tmp_path))
        rival = Registered("x_classifier", "1", "unaudited") if champion is not None else None
        monkeypatch.setattr(job, "aliased", lambda client, name, alias: rival)
        monkeypatch.setattr(job, "records_digest", lambda client, version: trained_on or records)
        monkeypatch.setattr(Registered, "files", lambda version, artifact: str(tmp_path))
        publish(workspace, challenger, notes={"name": "x_classifier", "version": "2", "run_id": "r"})
        return execute(job.JOB, config(), workspace, None).dataset.manifest

    meet.crowned = []
    monkeypatch.setattr(job, "connect", lambda config, root: None)
    monkeypatch.setattr(job, "log_evaluation", lambda *told: None)
    monkeypatch.setattr(job, "rolled_back", lambda client, name, version: "")
    monkeypatch.setattr(decision, "keep_verdicts", lambda *told: None)
    monkeypatch.setattr(decision, "crown", lambda client, name, version: meet.crowned.append(version))
    return meet


def test_the_first_must_beat_whoever_says_always_the_commonest_class(gate, workspace) -> None:
    with pytest.raises(PromotionError, match=r"must be above 0\.\d+, the share of the commonest class, got 0\."):
        gate(knowing(0))
    assert gate.crowned == []
    assert gate(knowing()).facts["promoted"]
    assert gate.crowned == ["2"]
    page = Path(write_page(workspace, config())).read_text(encoding="utf-8")
    assert "linear, champion" in page


def test_a_champion_that_is_worse_on_the_same_images_is_replaced_and_by_how_much_is_told(gate) -> None:
    facts = gate(knowing(), knowing(-1)).facts
    difference = facts["champion"]["differences"]["all"]["accuracy"]
    assert difference["value"] > 0.5
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert "paired difference +" in facts["checks"][-1]["detail"]
    assert gate.crowned == ["2"]


def test_a_challenger_that_is_far_worse_is_refused_and_an_equal_one_is_not(gate) -> None:
    good, always = knowing(), knowing(0)
    with pytest.raises(PromotionError, match=r"version 1, has .* on the same images, less 2%"):
        gate(always, good)
    assert gate.crowned == []
    assert gate(good, good).facts["champion"]["differences"]["all"]["accuracy"]["value"] == 0


def test_a_champion_that_learnt_from_other_records_is_said_to_have_an_advantage(gate, capsys) -> None:
    gate(knowing(), knowing())
    assert "note:" not in capsys.readouterr().err
    gate(knowing(), knowing(), trained_on="others")
    assert "the champion, version 1, was trained on other records" in capsys.readouterr().err


def test_a_champion_of_other_images_or_classes_is_named_with_the_remedy(gate) -> None:
    with pytest.raises(WorkspaceError, match=r"the champion, models:/x_classifier/1, must take images .*remov.* alias"):
        gate(knowing(), knowing(shape=(6, 6, 1)))
    with pytest.raises(WorkspaceError, match="must know the classes of the records, 'green'"):
        gate(knowing(), knowing(classes=("dark", "light", "green")))
    padded = knowing()
    padded.state = padded.state.model_copy(update={"resize": "pad"})
    with pytest.raises(WorkspaceError, match=r"fitted as the records' are, by stretch, it takes them by pad; .* alias"):
        gate(knowing(), padded)
