"""The job on classifiers made by hand: what is measured and kept, and that test images are touched once."""

import base64
import io
import re
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import cli, evaluate_classifier, launch
from jobs.evaluate_classifier import JOB
from jobs.launch import execute
from jobs.write_image_records import JOB as WRITE
from pipelines.errors import InputError, SecondTouchError, WorkspaceError
from pipelines.evaluation.classifier_measures import measure
from pipelines.evaluation.classifier_page import render, write_page
from pipelines.evaluation.report import write_report
from pipelines.evaluation.summary import summarise
from pipelines.storage import Workspace
from tests.jobs.classifiers import RAW, config, knowing, png, publish, records_in, remembering, write_images


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def written(tmp_path_factory, data):
    """Records that no classifier was trained on."""
    return records_in(tmp_path_factory.mktemp("records") / "out", data)


@pytest.fixture
def workspace(tmp_path, written):
    """The same, in a workspace of the test's own."""
    shutil.copytree(written.root, tmp_path / "out")
    return Workspace.open(str(tmp_path / "out"))


def evaluate(workspace, **options):
    return execute(JOB, config(classifier_evaluation=options), workspace, None)


def test_validation_is_measured_and_a_wrong_label_is_shown_as_the_surest_mistake(workspace) -> None:
    publish(workspace, knowing())
    found = evaluate(workspace, split="test").dataset
    facts = found.manifest.facts
    # Of 20 test images none has a wrong label; two of the others have.
    assert facts["metrics"]["test"]["all"]["accuracy"]["value"] == 1.0
    assert set(facts["metrics"]["test"]["all"]) == {"accuracy", "calibration_error"}
    rest = evaluate(workspace).dataset
    rows = rest.read_table("predictions").to_pylist()
    wrong = [row["name"] for row in rows if row["label"] != row["predicted"]]
    assert set(wrong) == {row["name"] for row in rows} & {"p/train/light/000.png", "p/train/dark/001.png"}
    assert facts["metrics"]["test"]["all"]["accuracy"]["n"] == 20
    assert rest.manifest.facts["metrics"]["validation"]["all"]["accuracy"]["value"] == pytest.approx(
        1 - len(wrong) / len(rows), abs=1e-6
    )
    found.verify()


def test_the_pictures_are_those_of_the_images_they_stand_for(workspace) -> None:
    publish(workspace, knowing(-1))
    found = evaluate(workspace, mistakes=3, neighbours=2).dataset
    pictures = found.read_json("pictures")
    names = {row["example_id"]: row["name"] for row in found.read_table("predictions").to_pylist()}
    assert len(pictures["mistakes"]) == 3
    for row in pictures["mistakes"]:
        assert row["name"] == names[row["id"]]
        number = int(row["name"][-7:-4])
        expected = np.asarray(Image.open(io.BytesIO(png(number, number % 2 == 1))))
        np.testing.assert_array_equal(pixels(row["png"]), expected)
    # What raises the score of `dark` in this one is bright.
    assert [(row["class"], pixels(row["png"]).min()) for row in pictures["templates"]] == [("dark", 255), ("light", 0)]
    assert [len(row["near"]) for row in pictures["neighbours"]] == [5, 5]


def pixels(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_nearest_neighbours_are_measured_too_and_have_no_templates(workspace) -> None:
    publish(workspace, remembering(workspace))
    pictures = evaluate(workspace, split="test", neighbours=1).dataset.read_json("pictures")
    assert pictures["templates"] == []
    assert len(pictures["neighbours"]) == 1


def test_another_classifier_may_not_touch_the_test_images_unless_it_says_so(workspace) -> None:
    publish(workspace, knowing(), "one")
    evaluate(workspace, split="test")
    publish(workspace, knowing(-1), "two")
    evaluate(workspace)  # validation may be looked at as often as you like
    with pytest.raises(SecondTouchError, match=r"20 of these 20 have measured another classifier.*or give --again"):
        evaluate(workspace, split="test")
    again = evaluate(workspace, split="test", again=True).dataset
    assert len(again.manifest.notes["touched_before"]) == 1
    # What was told once may be told again.
    assert evaluate(workspace, split="test").dataset.manifest.content_digest == again.manifest.content_digest


def test_the_same_pixels_under_other_names_are_the_same_test_images(workspace, data, tmp_path) -> None:
    publish(workspace, knowing(), "one")
    evaluate(workspace, split="test")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "data").symlink_to(data)
    (source,) = RAW["images"]["sources"]
    images = {**RAW["images"], "sources": [{**source, "path": "data/p"}]}
    execute(WRITE, config(images=images), workspace, str(tmp_path / "deeper"))
    publish(workspace, knowing(-1), "two")
    with pytest.raises(SecondTouchError, match=r"20 of these 20 have .* other output folders are not looked at"):
        evaluate(workspace, split="test")


def test_of_two_evaluations_at_once_one_waits_and_is_refused(workspace, monkeypatch) -> None:
    settled, refused, seconds = threading.Event(), [], []

    def second() -> None:
        try:
            evaluate(workspace, split="test")
        except SecondTouchError as error:
            refused.append(error)

    def measured(*args, **options):
        # The first has found the images untouched, and has not published: now the second begins.
        if not seconds:
            publish(workspace, knowing(-1), "two")
            seconds.append(threading.Thread(target=second))
            seconds[0].start()
            assert settled.wait(20)
        else:
            settled.set()
        return measure(*args, **options)

    monkeypatch.setattr(evaluate_classifier, "measure", measured)
    monkeypatch.setattr(launch, "say", lambda line: settled.set() if "being made by another run" in line else None)
    publish(workspace, knowing(), "one")
    evaluate(workspace, split="test")
    seconds[0].join()
    assert len(refused) == 1


def test_the_same_classifier_is_not_refused_its_own_test_and_is_not_measured_twice(workspace) -> None:
    publish(workspace, knowing())
    assert [evaluate(workspace, split="test").reused for _ in range(2)] == [False, True]
    assert not evaluate(workspace, split="test", mistakes=1).reused


class Links(HTMLParser):
    """What a page would load, and the places that it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.loads, self.links, self.ids, self.images = [], set(), set(), 0

    def handle_starttag(self, tag, attributes) -> None:
        said = dict(attributes)
        self.ids.add(said.get("id"))
        if tag == "a":
            self.links.add(said["href"])
        elif address := said.get("src") or said.get("href"):
            self.images += tag == "img"
            self.loads += [address] if not address.startswith("data:") else []


def test_the_page_needs_nothing_but_itself_and_shows_both_splits(workspace) -> None:
    publish(workspace, knowing(-1))
    for split in ("test", "validation"):
        evaluate(workspace, split=split, mistakes=2, neighbours=1)
    text = Path(write_page(workspace, config())).read_text(encoding="utf-8")
    page = Links()
    page.feed(text)
    assert page.loads == []
    assert page.links <= {f"#{name}" for name in page.ids if name}
    # Of each split 2 mistakes, 2 templates, an image and its 5 neighbours.
    assert page.images == 2 * (2 + 2 + 6)
    assert "accuracy on test" in text
    assert "accuracy on validation" in text
    assert "Learning curves" in text


def test_the_report_of_a_run_names_its_classifier_and_links_to_its_page(workspace) -> None:
    report = Path(workspace.root) / "report.html"
    write_report(workspace, config(), summarise(workspace, config(), {}), str(report))
    assert 'id="classifier"' not in report.read_text(encoding="utf-8")
    publish(workspace, knowing())
    write_report(workspace, config(), summarise(workspace, config(), {}), str(report))
    assert "thaw evaluate_classifier" in report.read_text(encoding="utf-8")
    evaluate(workspace, split="test")
    write_report(workspace, config(), summarise(workspace, config(), {}), str(report))
    text = report.read_text(encoding="utf-8")
    assert '<a href="classifier.html">' in text
    assert re.search(r"Accuracy 1\.0000 \(0\.\d{4} to 1\.0000\) on test\.", text)


def test_a_class_of_any_name_is_text_on_the_page(workspace) -> None:
    publish(workspace, knowing())
    found = evaluate(workspace, mistakes=0, neighbours=0).dataset
    said = found.manifest.model_copy(
        update={"facts": {**found.manifest.facts, "classes": ["<script>alert(1)</script>", "light"]}}
    )
    page = render(config(), workspace.current("classifier"), {"validation": type(found)(found.path, said)})
    assert "<script>" not in page


def test_images_or_classes_that_the_classifier_does_not_know_are_told(workspace) -> None:
    publish(workspace, knowing(shape=(6, 5, 1)))
    with pytest.raises(WorkspaceError, match=r"channels, \(4, 5, 1\), it takes \(6, 5, 1\)"):
        evaluate(workspace)
    publish(workspace, knowing(classes=("dark", "light", "green")))
    with pytest.raises(WorkspaceError, match="'green' is known to one of them alone"):
        evaluate(workspace)


def test_classes_in_another_order_are_found_by_their_names(workspace) -> None:
    publish(workspace, knowing(-1, classes=("light", "dark")))
    assert evaluate(workspace, split="test").dataset.manifest.facts["metrics"]["test"]["all"]["accuracy"]["value"] == 1


def test_a_split_without_images_is_told(tmp_path, data) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    chosen = config()
    images = chosen.images.model_copy(update={"validation_share": 0.0})
    execute(WRITE, chosen.model_copy(update={"images": images}), workspace, str(data))
    publish(workspace, knowing())
    with pytest.raises(InputError, match="the split validation has none"):
        evaluate(workspace)


def test_the_command_writes_the_page_and_a_refusal_is_exit_code_3(workspace, tmp_path, capsys) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\nseed: 7\nimages: {height: 4, width: 5, sources: [{path: p}]}\n")
    command = ["evaluate_classifier", "--config", str(path), "--out", workspace.root]
    assert cli.main(command) == 2
    publish(workspace, knowing(), "one")
    assert cli.main([*command, "--split", "test"]) == 0
    assert "accuracy on test" in (tmp_path / "out" / "classifier.html").read_text()
    publish(workspace, knowing(-1), "two")
    assert cli.main([*command, "--split", "test"]) == 3
    assert cli.main([*command, "--split", "test", "--again"]) == 0
    assert cli.main([*command, "--split", "train"]) == 2
    assert "Traceback" not in capsys.readouterr().err
