"""Runs that are killed while they write: no reader ever meets part of a dataset, and the next run makes the same one.

Four times THAW_KILLS are killed (1, or 3 by `make test-faults`), each at a moment drawn by its number: of four, one on
S3. Real jobs are killed in `test_faults`.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

HERE = Path(__file__).parent
KILLS = range(4 * int(os.environ.get("THAW_KILLS", "1")))
STALE_S = "1.5"


def writer(out: str) -> subprocess.Popen:
    command = [sys.executable, str(HERE / "small_writer.py"), out, "--stale", STALE_S]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def digest_of(process: subprocess.Popen) -> str:
    """What a small writer that comes to its end has published or found."""
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    return said.split()[-1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[str, float]:
    """The digest, and for how many seconds it writes."""
    process = writer(str(tmp_path_factory.mktemp("undisturbed") / "out"))
    process.stderr.readline()
    started = time.monotonic()
    return digest_of(process), time.monotonic() - started


@pytest.mark.parametrize("number", KILLS)
def test_a_killed_writer_leaves_nothing_half_made_and_the_next_one_makes_the_same(
    number, undisturbed, watched, tmp_path, request
) -> None:
    digest, seconds = undisturbed
    out = request.getfixturevalue("s3") if number % 4 == 3 else str(tmp_path / "out")
    with watched(out):
        process = writer(out)
        assert process.stderr.readline() == "writing\n"
        time.sleep(random.Random(number).uniform(0, seconds))
        process.kill()
        process.communicate()
        assert digest_of(writer(out)) == digest
    fs, root = fsspec.core.url_to_fs(f"{out}/records")
    fs.invalidate_cache()
    # A run killed as the last thing it does leaves its claim, for the next that makes this version.
    assert len([path for path in fs.ls(root, detail=False) if not path.endswith(".claim")]) == 2, fs.ls(root)
