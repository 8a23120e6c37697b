"""Whatever a run is about to do when it dies, what is published is whole, and the next run makes the rest."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VERSION = r"[0-9a-f]{16}-[0-9a-f]{8}"
STEPS = [
    r"open \w+\.claim",
    r"fcntl\.flock .*",
    rf"os\.mkdir {VERSION}",
    r"open part-00000\.tfrecord\.gz\.\w+\.tmp",
    r"os\.rename part-00000\.tfrecord\.gz\.\w+\.tmp",
    r"open part-00001\.tfrecord\.gz\.\w+\.tmp",
    r"os\.rename part-00001\.tfrecord\.gz\.\w+\.tmp",
    r"open manifest\.json\.\w+\.tmp",
    r"os\.rename manifest\.json\.\w+\.tmp",
    r"open CURRENT\.\w+\.tmp",
    r"os\.rename CURRENT\.\w+\.tmp",
    r"os\.remove \w+\.claim",
]
"""What must be among the steps, in this order."""


@pytest.mark.parametrize("scenario", ["first", "again"])
def test_a_crash_before_any_step_of_publishing_leaves_whole_versions_and_a_run_that_can_go_on(
    scenario, tmp_path
) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "crash_steps.py"), str(tmp_path / "out"), scenario],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = iter(json.loads(done.stdout.splitlines()[-1]))
    for wanted in STEPS:
        assert any(re.fullmatch(wanted, step) for step in steps), wanted
