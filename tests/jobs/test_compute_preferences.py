"""A log that nothing can be learned from: the first job that looks at labels says so, and publishes nothing."""

import re

import pytest

from jobs import check_quality, compute_preferences
from jobs.launch import main
from pipelines.storage import Workspace

CONFIG = """
name: small
seed: 1
source:
  interactions:
    - {path: log.csv, user_id: user, item_id: item, event_time: {column: at, unit: s}, action: action, weight: stars}
labels: {rule: threshold, positive_actions: [rating], threshold: 4}
preferences: {windows: [lifetime]}
storage: {parquet_files: 1}
"""
START = 1_700_000_000


@pytest.fixture(scope="module")
def cleaned(spark, tmp_path_factory):
    """Arguments of jobs whose clean log has 20 impressions and 20 ratings of 4 stars, an hour apart."""
    folder = tmp_path_factory.mktemp("equal")
    rows = [f"u{n % 4},i{n % 5},{START + 3600 * n},{('impression', 'rating')[n % 2]},4" for n in range(40)]
    (folder / "log.csv").write_text("\n".join(["user,item,at,action,stars", *rows]))
    (folder / "small.yaml").write_text(CONFIG)
    arguments = ["--config", str(folder / "small.yaml"), "--data", str(folder), "--out", str(folder / "out")]
    assert main(check_quality.JOB, arguments) == 0
    return arguments


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "labels.threshold=4",
            r"training labels must not all be equal, all 16 are 1; check labels\.rule \(threshold\), "
            r"labels\.threshold \(4\) and labels\.positive_actions \(rating\)",
        ),
        (
            "labels={rule: impressions, positive_actions: [click], label_window: 1h}",
            r"training labels must not all be equal, all \d+ are 0; check labels\.rule \(impressions\), "
            r"labels\.label_window \(1h\), labels\.impression_action and labels\.positive_actions \(click\)",
        ),
        (
            "labels={rule: sampled, positive_actions: [clik]}",
            r"there must be events to label, found none; check labels\.rule and the actions it names",
        ),
        (
            "split={validation_start: '2023-11-15', test_start: '2030-01-01'}",
            r"each split must have examples, test has none; set split\.validation_start and split\.test_start",
        ),
    ],
    ids=["all-ones", "all-zeros", "none", "a-split-without-any"],
)
def test_labels_that_teach_nothing_are_one_message_and_code_2(cleaned, capsys, override, message) -> None:
    assert main(compute_preferences.JOB, [*cleaned, "--set", override]) == 2
    said = capsys.readouterr().err
    assert re.search(f"^thaw: {message}", said, re.MULTILINE), said
    assert said.count("thaw: ") == 1
    assert "Traceback" not in said
    assert Workspace.open(cleaned[-1]).current("preferences") is None
