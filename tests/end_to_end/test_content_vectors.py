"""Published content vectors are a content source: they reach the examples, each from its valid_from on."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.check_quality import JOB
from jobs.launch import execute, open_parents
from pipelines.config import ConfigError, parse_config
from pipelines.errors import WorkspaceError
from pipelines.storage import Workspace, arrow_schema, write_arrow
from schemas.columns import TIME_MIN_US
from schemas.fitted import Cuts, Fitted
from schemas.images import CONTENT_VECTORS
from schemas.manifest import Manifest

START = 1_700_000_000
DAY = 86_400
CUTS = {"validation_start": 22, "test_start": 26, "end": 31}
RAW = {
    "name": "pictured",
    "seed": 1,
    "source": {
        "interactions": [
            {"path": "log.csv", "user_id": "user", "item_id": "item", "event_time": {"column": "at", "unit": "s"},
             "action_value": "click"}
        ],
        "items": [{"dataset": "content_vectors", "columns": {"image": {"kind": "vector", "column": "vector"}}}],
    },
    "labels": {"rule": "threshold", "positive_actions": ["click"], "threshold": 1},
    "preferences": {"windows": ["lifetime"], "statistics": [], "entities": ["item"]},
    "storage": {"parquet_files": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """60 clicks, half a day apart, on six items in turn."""
    folder = tmp_path_factory.mktemp("pictured")
    rows = [f"u{n % 4},i{n % 6},{START + n * DAY // 2}" for n in range(60)]
    (folder / "log.csv").write_text("\n".join(["user,item,at", *rows]))
    return folder


def publish(workspace: Workspace) -> None:
    """i0 always; i1 from day 10 and another from day 20; the others never."""
    rows = [
        {"item_id": "i0", "valid_from": TIME_MIN_US, "vector": [1.0, 2.0]},
        {"item_id": "i1", "valid_from": (START + 10 * DAY) * 1_000_000, "vector": [3.0, 4.0]},
        {"item_id": "i1", "valid_from": (START + 20 * DAY) * 1_000_000, "vector": [5.0, 6.0]},
    ]
    staging = workspace.stage("content_vectors", "k" * 64)
    table = pa.Table.from_pylist(rows, schema=arrow_schema(CONTENT_VECTORS))
    entry = write_arrow(staging, "vectors", table, CONTENT_VECTORS)
    workspace.publish(staging, Manifest(dataset="content_vectors", tables={"vectors": entry}, seed=1, key="k" * 64))


def test_a_vector_reaches_the_examples_from_its_own_time_on(spark, data, tmp_path) -> None:
    from pipelines.examples.build import build
    from pipelines.examples.tables import Tables
    from pipelines.quality import clean
    from pipelines.quality.sources import with_datasets

    workspace = Workspace.open(str(tmp_path / "out"))
    publish(workspace)
    # A worker that was given up may write once more: what the manifest does not name is not read.
    (part,) = map(Path, workspace.current("content_vectors").table_paths("vectors"))
    shutil.copy(part, part.with_name("part-00009.parquet"))
    parents = open_parents(JOB, JOB.needs(parse_config(RAW)), parse_config(RAW), workspace)
    config = with_datasets(parse_config(RAW), parents)
    marked = {name: clean.marked_content(spark, str(data), name, config).rows for name in ("items[0]",)}
    assert [row["reason"] for row in marked["items[0]"].select("reason").collect()] == [None] * 3
    tables = Tables(
        clean.interactions(clean.marked_log(spark, str(data), config).rows),
        clean.content(spark, "item", marked, config),
        clean.content(spark, "user", {}, config),
    )
    cuts = Cuts(**{name: (START + day * DAY) * 1_000_000 for name, day in CUTS.items()})
    rows = build(tables, config, Fitted(cuts=cuts, priors={})).examples.collect()
    assert len(rows) == 60
    for row in rows:
        day = (row["event_time"] // 1_000_000 - START) / DAY
        i1 = None if day < 10 else [3.0, 4.0] if day < 20 else [5.0, 6.0]
        assert row["item_image"] == {"i0": [1.0, 2.0], "i1": i1}.get(row["item_id"]), row
    assert {row["item_id"] for row in rows if row["item_image"]} == {"i0", "i1"}


def test_the_gate_needs_the_dataset_and_no_other_configuration_does(data, tmp_path) -> None:
    workspace = Workspace.open(str(tmp_path / "out"))
    with pytest.raises(WorkspaceError, match=r"needs the dataset `content_vectors`.*run `thaw embed_content` first"):
        execute(JOB, parse_config(RAW), workspace, str(data))
    plain = {**RAW, "source": {**RAW["source"], "items": []}}
    assert JOB.needs(parse_config(plain)) == ()
    # Its content is a parent's: the fingerprint is of the log alone.
    assert JOB.fingerprint(parse_config(RAW), str(data)) == JOB.fingerprint(parse_config(plain), str(data))


def test_what_a_dataset_says_itself_is_not_configured() -> None:
    source = {**RAW["source"]["items"][0], "id": "sku"}
    with pytest.raises(ConfigError, match="id is known where dataset is set; remove it"):
        parse_config({**RAW, "source": {**RAW["source"], "items": [source]}})
