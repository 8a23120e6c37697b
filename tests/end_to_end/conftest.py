"""What end-to-end tests share: a reader that never rests, and a workspace that write_records can run in."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import load_config
from pipelines.features import feature_set
from pipelines.storage import MANIFEST, Workspace, arrow_schema, open_dataset, write_arrow
from schemas.examples import example_table
from schemas.manifest import Manifest

SMALL = """
name: small
seed: 7
labels: {rule: threshold, positive_actions: [rate]}
source: {items: [{path: items.csv, id: item, columns: {genre: {kind: category}, size: {kind: number}}}]}
preferences:
  windows: [lifetime]
  statistics: [{name: event, kind: count}]
records: {num_shards: 4}
training: {allow_unaudited: true}
spark: {master: "local[2]", driver_memory: 1g}
"""


@pytest.fixture(scope="session")
def ready_for_records(tmp_path_factory) -> tuple[Path, Path]:
    """A configuration, and a workspace that write_records can run in."""
    folder = tmp_path_factory.mktemp("ready")
    (folder / "small.yaml").write_text(SMALL)
    contract = example_table(feature_set(load_config([folder / "small.yaml"])))
    rows = 6_000
    values = {
        "example_id": [f"{row:032x}" for row in range(rows)],
        "event_time": 1_700_000_000_000_000 + np.random.default_rng(7).permutation(rows),
        "label": np.arange(rows) * 7919 % 3 == 0,
        "split": [("train", "train", "validation", "test")[row % 4] for row in range(rows)],
    }
    values["item_genre"] = [f"g{row % 7}" for row in range(rows)]
    values["item_size"] = np.arange(rows) % 11 / 7
    others = {"string": [f"{row % 50}" for row in range(rows)], "": np.arange(rows) % 50}
    columns = {c.name: pa.array(values.get(c.name, others.get(c.type, others[""]))) for c in contract}
    table = pa.table(columns).cast(arrow_schema(contract))
    workspace = Workspace.open(str(folder / "out"))
    staging = workspace.stage("examples", "k" * 64)
    entry = write_arrow(staging, "examples", table, contract)
    workspace.publish(staging, Manifest(dataset="examples", tables={"examples": entry}, seed=7, key="k" * 64))
    return folder / "small.yaml", folder / "out"


@contextmanager
def _watched(out: str, dataset: str = "records") -> Iterator[None]:
    ended, met, verified = threading.Event(), [], []

    def read() -> None:
        fs, root = fsspec.core.url_to_fs(out)
        last = False
        while not last:
            last = ended.wait(0.05)
            try:
                fs.invalidate_cache()
                for manifest in fs.glob(f"{root}/{dataset}/*/{MANIFEST}"):
                    open_dataset(fs.unstrip_protocol(manifest).removesuffix(f"/{MANIFEST}")).verify()
                    verified.append(manifest)
                if current := Workspace(out).current(dataset):
                    current.verify()
            except Exception as error:
                met.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        ended.set()
        reader.join()
        assert met == []
    assert verified


@pytest.fixture
def watched() -> Callable[..., AbstractContextManager[None]]:
    """A reader that opens whatever has a manifest, all the time, and checks every byte of it."""
    return _watched


def pytest_terminal_summary(terminalreporter) -> None:
    """Where each job was killed more than once: the table of docs/reliability.md."""
    reports = [report for state in ("passed", "failed") for report in terminalreporter.stats.get(state, [])]
    found = [(*value, report.passed) for report in reports for name, value in report.user_properties if name == "fault"]
    kills = [case for case in found if case[1].startswith("killed")]
    jobs = list(dict.fromkeys(case[0] for case in found))
    if len(kills) == len(jobs):
        return
    terminalreporter.section(f"{len(found)} faults, {len(kills)} of them kills")
    terminalreporter.line("| job | killed when so many files were there | of | same digest afterwards |")
    terminalreporter.line("|---|---|---|---|")
    for job in jobs:
        told = ", ".join(sorted(case[2] for case in kills if case[0] == job))
        passed = [case[4] for case in found if case[0] == job]
        files = next(case[3] for case in found if case[0] == job)
        terminalreporter.line(f"| {job} | {told} | {files} | {sum(passed)} of {len(passed)} |")
