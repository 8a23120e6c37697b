import gzip
import json
import random
from pathlib import Path

import pytest

from jobs.check_quality import JOB
from jobs.launch import execute, main
from pipelines.config import load_config
from pipelines.storage import Workspace, open_dataset

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
name: small
seed: 1
source:
  interactions:
    - {path: clicks, user_id: user, item_id: item, event_time: {column: at, unit: s}, action_value: click}
    - {path: views.jsonl, format: jsonl, user_id: u, item_id: i, event_time: {column: t, zone: UTC}, action_value: view}
  items:
    - {path: items.csv, id: item, title: name, columns: {genres: {kind: categories, separator: "|"}}}
    - path: tags.csv
      id: item
      valid_from: {column: at, unit: s}
      accumulate: true
      columns: {tags: {kind: categories, column: tag}}
labels: {rule: sampled, positive_actions: [click]}
quality: {max_quarantine_share: 0.2}
storage: {parquet_files: 2}
"""
START = 1_700_000_000


def write(folder: Path, seed: int, unit: int = 1) -> Path:
    """A small log with 2 malformed rows and 3 copies, its rows and files in an order that `seed` decides."""
    mix = random.Random(seed)
    clicks = [f"u{n % 5},i{n % 7},{(START + n) * unit}" for n in range(40)] + [f"u0,i0,{START * unit}"] * 3
    clicks += ["u1,,1700000000", "u2,i9"]
    mix.shuffle(clicks)
    cut = mix.randrange(5, 30)
    (folder / "clicks").mkdir(parents=True)
    for name, lines in (("a", clicks[:cut]), ("b", clicks[cut:]), ("c", [])):
        (folder / "clicks" / f"{name}.csv.gz").write_bytes(gzip.compress("\n".join(["user,item,at", *lines]).encode()))
    (folder / "clicks" / "d.csv").write_text("")
    views = [json.dumps({"u": f"u{n}", "i": "i1", "t": f"2023-11-15 00:00:{n:02}"}) for n in range(10)]
    mix.shuffle(views)
    (folder / "views.jsonl").write_text("\n".join(views))
    (folder / "items.csv").write_text("item,name,genres\n" + "".join(f"i{n},Item {n},a|b\n" for n in range(5)))
    (folder / "tags.csv").write_text(f"item,tag,at\ni0,new,{START}\ni0,newer,{START + 9}\n")
    return folder


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def run(config, data, out, *more: str) -> int:
    return main(JOB, ["--config", str(config), "--data", str(data), "--out", str(out), *more])


def test_every_row_is_out_quarantined_or_a_duplicate_and_row_order_changes_no_byte(
    spark, config, tmp_path, capsys
) -> None:
    digests = []
    for seed in (1, 2):
        data, out = write(tmp_path / f"data{seed}", seed), tmp_path / f"out{seed}"
        outcome = execute(JOB, load_config([config]), Workspace.open(str(out)), str(data))
        facts = outcome.dataset.manifest.facts
        assert facts["rows"] == {"in": 55, "out": 50, "quarantined": 2, "duplicates": 3}
        assert facts["sources"]["interactions[1]"] == {"in": 10, "out": 10, "quarantined": 0, "duplicates": 0}
        assert facts["content"]["items[1]"] == {"in": 2, "out": 2, "quarantined": 0, "duplicates": 0}
        assert (facts["items_without_content"], facts["users_without_content"]) == (2, 10)
        tables = outcome.dataset.manifest.tables
        assert {name: entry.rows for name, entry in tables.items() if entry.format != "file"} == {
            "interactions": 50,
            "items": 7,
            "users": 0,
            "quarantine": 2,
        }
        outcome.dataset.verify()
        digests.append([s.sha256 for name in ("interactions", "items") for s in tables[name].shards])
        report = open_dataset(outcome.dataset.path).read_json("report")
        assert {r["reason"] for r in report["reasons"]["interactions[0]"]} == {
            "item_id: empty",
            "row: not 3 columns at separator ','",
        }
    assert digests[0] == digests[1]
    assert "all logs: 55 rows in = 50 out + 2 quarantined + 3 duplicates" in capsys.readouterr().err
    again = execute(JOB, load_config([config]), Workspace.open(str(out)), str(data))
    assert again.reused and again.dataset.manifest.content_digest == outcome.dataset.manifest.content_digest


def test_times_in_the_wrong_unit_stop_the_run_with_code_3_and_publish_nothing(spark, config, tmp_path, capsys) -> None:
    data, out = write(tmp_path / "data", 1, unit=1000), tmp_path / "out"
    assert run(config, data, out) == 3
    said = capsys.readouterr().err
    assert "event_time: after 2100-01-01; is unit: s right? (43 rows)" in said and "Traceback" not in said
    assert Workspace.open(str(out)).current("clean") is None


@pytest.mark.parametrize(
    ("broken", "override", "message"),
    [
        ("clicks", "name=small", "found nothing at"),
        ("log", "name=small", "the log must have rows"),
        ("", "source.items=[{path: items.csv, id: itme}]", "did you mean 'item'?"),
        ("", "source.items=[{path: items.csv, separator: ';', id: item}]", 'set separator: ","'),
        ("", "source.interactions=[]", "source.interactions must name at least one log"),
        ("", "quality.event_kye=[user_id]", "did you mean `event_key`?"),
    ],
)
def test_a_user_s_mistake_is_one_message_and_code_2(spark, config, tmp_path, capsys, broken, override, message) -> None:
    data = write(tmp_path / "data", 1)
    if broken == "clicks":
        (data / "clicks").rename(data / "elsewhere")
    if broken == "log":
        for file in (*(data / "clicks").iterdir(), data / "views.jsonl"):
            file.write_text(
                "user,item,at\n" if file.suffix == ".csv" else ""
            ) if file.suffix != ".gz" else file.unlink()
    assert run(config, data, tmp_path / "out", "--set", override) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_the_example_configurations_are_valid() -> None:
    for name in ("demo", "movielens", "globo"):
        assert load_config([ROOT / "conf" / f"{name}.yaml"]).name == name
