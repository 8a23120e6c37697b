"""The smallest world: one user, and items that the catalogue does not know, from the raw log to recommendations."""

import json

import pytest

from jobs import cli
from pipelines.storage import Workspace

CONFIG = """
name: lonely
seed: 1
source:
  interactions:
    - {path: log.csv, user_id: user, item_id: item, event_time: {column: at, unit: s}, action: action}
  items:
    - {path: items.csv, id: item, columns: {genre: {kind: category}, price: {kind: number}}}
labels: {rule: sampled, positive_actions: [click], negatives: 2}
preferences: {windows: [lifetime]}
content: {min_count: 1}
audit: {sample: 4}
records: {num_shards: 1}
model: {embedding_dim: 2, content_units: [], preference_units: [], tower_units: [4]}
training: {epochs: 1, batch_size: 16}
evaluation: {ks: [5], bootstrap: 10}
recommend: {k: 50}
storage: {parquet_files: 1}
"""
START = 1_700_000_000
UNLISTED = {"i57", "i58", "i59"}


@pytest.fixture
def world(tmp_path):
    """A folder where `u` sees 60 items, two thirds of a day apart, and clicks on two of three."""
    rows = [f"u,i{n},{START + n * 57_600},{'view' if n % 3 == 0 else 'click'}" for n in range(60)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,at,action", *rows]))
    items = [f"i{n},g{n % 2},{n}.5" for n in range(60) if f"i{n}" not in UNLISTED]
    (tmp_path / "items.csv").write_text("\n".join(["item,genre,price", *items]))
    (tmp_path / "lonely.yaml").write_text(CONFIG)
    return tmp_path


def test_one_user_and_items_without_content_go_through_the_whole_chain_with_a_note(
    spark, world, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("pipelines.spark.stop_spark", lambda: None)  # other tests go on with this session
    out = world / "out"
    code = cli.main(["run", "--config", str(world / "lonely.yaml"), "--data", str(world), "--out", str(out)])
    said = capsys.readouterr().err
    assert code == 0, said
    notes = [line for line in said.splitlines() if line.startswith("note: ")]
    assert [note.partition(";")[0] for note in notes] == [
        "note: 3 items of the log are not in source.items, and so without content",
        "note: every example is of one user: nothing can be learned from how users differ",
    ]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["audit"]["passed"] is True
    assert 0 <= summary["metrics"]["test"]["all"]["ndcg@10"]["value"] <= 1
    assert summary["metrics"]["test"]["all"]["ndcg@10"]["n"] == 1
    found = Workspace.open(str(out)).current("recommendations")
    lists = found.read_table("recommendations").to_pydict()
    assert set(lists["user_id"]) == {"u"}
    assert set(lists["item_id"]) == {f"i{n}" for n in range(0, 60, 3)}  # what was not clicked, listed or not
    embedded = found.read_table("item_embeddings").to_pydict()
    lengths = {i: sum(x * x for x in v) for i, v in zip(embedded["item_id"], embedded["embedding"], strict=True)}
    assert set(lengths) >= UNLISTED
    assert all(length == pytest.approx(1, abs=1e-4) for length in lengths.values())
