"""Input files that were cut off on their way: one message, or a counted row, and the whole file makes the job right."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import cli
from pipelines.storage import Workspace

CONFIG = """
name: cut
seed: 1
source:
  interactions:
    - {path: LOG, format: jsonl, user_id: user, item_id: item, event_time: {column: at, unit: s}, action: action}
  items:
    - {path: items.csv, id: item, columns: {genre: {kind: category}}}
  users:
    - {path: users.parquet, format: parquet, id: user, columns: {country: {kind: category}}}
quality: {max_quarantine_share: 0.1}
labels: {rule: sampled, positive_actions: [click]}
images: {sources: [{path: ARCHIVE}], height: 2, width: 2, channels: 1}
beam: {workers: 1}
"""
ROWS = 600


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A data folder in which nothing is wrong."""
    data = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(1)
    events = [
        {"user": f"u{rng.integers(9)}", "item": f"i{n % 40}", "at": 1_700_000_000 + 977 * n, "action": "click"}
        for n in range(ROWS)
    ]
    log = "".join(json.dumps(event) + "\n" for event in events).encode()
    (data / "log.jsonl").write_bytes(log)
    (data / "log.jsonl.gz").write_bytes(gzip.compress(log, mtime=0))
    (data / "items.csv").write_text("item,genre\n" + "".join(f"i{n},g{n % 3}\n" for n in range(40)))
    pq.write_table(pa.table({"user": [f"u{n}" for n in range(9)], "country": ["NO"] * 9}), data / "users.parquet")
    for name in ("images.tar", "images.tgz"):
        with tarfile.open(data / name, "w:gz" if name.endswith("gz") else "w") as archive:
            for number in range(12):
                out = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8)).save(out, "PNG")
                member = tarfile.TarInfo(f"{'ab'[number % 2]}/{number}.png")
                member.size = len(out.getvalue())
                archive.addfile(member, io.BytesIO(out.getvalue()))
    return data


@pytest.fixture
def run(spark, one_task, whole, tmp_path, capsys):
    """(job, log, archive, {file: bytes kept}) -> (exit code, what was said, the workspace)."""

    def job(name: str, cut: dict[str, int], log: str = "log.jsonl", archive: str = "images.tar"):
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        for file in whole.iterdir():
            (data / file.name).write_bytes(file.read_bytes()[: cut.get(file.name)])
        (tmp_path / "cut.yaml").write_text(CONFIG.replace("LOG", log).replace("ARCHIVE", archive))
        where = ["--config", str(tmp_path / "cut.yaml"), "--data", str(data), "--out", str(tmp_path / "out")]
        return cli.main([name, *where]), capsys.readouterr().err, Workspace(str(tmp_path / "out"))

    return job


@pytest.mark.parametrize(
    ("job", "dataset", "file", "said"),
    [
        ("check_quality", "clean", "log.jsonl.gz", "source.interactions[0] cannot be read"),
        ("check_quality", "clean", "users.parquet", "is not a Parquet file"),
        ("write_image_records", "image_records", "images.tar", "must be a whole tar archive"),
        ("write_image_records", "image_records", "images.tgz", "must be a whole gzip file"),
    ],
)
def test_a_file_that_was_cut_off_is_one_message_and_the_whole_one_makes_the_run_right(
    job, dataset, file, said, run, whole
) -> None:
    names = {"log": file} if "log" in file else {"archive": file} if "images" in file else {}
    code, told, workspace = run(job, {file: (whole / file).stat().st_size // 2}, **names)
    assert code == 2, told
    assert said in told
    assert "Traceback" not in told
    assert workspace.current(dataset) is None
    assert not list(Path(workspace.root, dataset).glob("*-*"))
    code, told, workspace = run(job, {}, **names)
    assert code == 0, told
    workspace.current(dataset).verify()


@pytest.mark.parametrize(("file", "source"), [("log.jsonl", "interactions"), ("items.csv", "items")])
def test_a_row_that_was_cut_off_is_in_the_quarantine_and_counted(file, source, run, whole) -> None:
    kept = (whole / file).read_bytes().rstrip(b"\n")
    code, told, workspace = run("check_quality", {file: kept.rindex(b"\n") + 4})
    assert code == 0, told
    clean = workspace.current("clean")
    assert clean.manifest.tables["quarantine"].rows == 1
    (line,) = [line for line in told.splitlines() if line.startswith(f"{source}[0]: ")]
    count = ROWS if source == "interactions" else 40
    assert f"{count} rows in = {count - 1} out + 1 quarantined + 0 duplicates" in line
