import datetime as dt
import gzip
import json
import math
import random
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
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
CLICKS = "path: clicks, user_id: user, item_id: item"


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
        digests.append([s.sha256 for name in ("interactions", "items", "data_docs") for s in tables[name].shards])
        pages = [Path(path).stem for path in outcome.dataset.table_paths("data_docs")]
        assert pages == ["interactions", "items"]
        report = open_dataset(outcome.dataset.path).read_json("report")
        assert {r["reason"] for r in report["reasons"]["interactions[0]"]} == {
            "item_id: empty",
            "row: not 3 columns at separator ','",
        }
    assert digests[0] == digests[1]
    assert "all logs: 55 rows in = 50 out + 2 quarantined + 3 duplicates" in capsys.readouterr().err
    again = execute(JOB, load_config([config]), Workspace.open(str(out)), str(data))
    assert again.reused and again.dataset.manifest.content_digest == outcome.dataset.manifest.content_digest


@pytest.mark.parametrize(
    ("factor", "override", "said_of_them"),
    [
        (
            1000,
            "name=small",
            ("interactions[0]: 45 of 45 rows", "event_time: after 2100-01-01; is unit: s right? (43 rows)"),
        ),
        (
            1,
            f"source.interactions=[{{{CLICKS}, event_time: {{column: at, unit: ms}}}}]",
            ("interactions[0]: 45 of 45 rows", "event_time: before 1990-01-01; is unit: ms right? (43 rows)"),
        ),
        (
            1,
            "source.items=[{path: tags.csv, id: item, valid_from: {column: at, unit: us}}]",
            ("items[0]: 2 of 2 rows", "valid_from: before 1990-01-01; is unit: us right? (2 rows)"),
        ),
    ],
    ids=["milliseconds-as-seconds", "seconds-as-milliseconds", "content-in-microseconds"],
)
def test_times_in_the_wrong_unit_stop_the_run_with_code_3_and_publish_nothing(
    spark, config, tmp_path, capsys, factor, override, said_of_them
) -> None:
    data, out = write(tmp_path / "data", 1, unit=factor), tmp_path / "out"
    assert run(config, data, out, "--set", override) == 3
    said = capsys.readouterr().err
    assert all(words in said for words in (*said_of_them, "at most 20.0% may (quality.max_quarantine_share)"))
    assert said.count("thaw: ") == 1 and "Traceback" not in said
    assert Workspace.open(str(out)).current("clean") is None


def test_lines_before_the_header_cost_no_row(spark, config, tmp_path) -> None:
    data, out = write(tmp_path / "data", 1), tmp_path / "out"
    log = data / "clicks" / "a.csv.gz"
    log.write_bytes(gzip.compress(b"\n\n" + gzip.decompress(log.read_bytes())))
    assert run(config, data, out) == 0
    facts = Workspace.open(str(out)).current("clean").manifest.facts
    assert facts["rows"] == {"in": 55, "out": 50, "quarantined": 2, "duplicates": 3}


def test_ids_mean_the_same_as_integers_floats_and_text(spark, config, tmp_path) -> None:
    data, out = write(tmp_path / "data", 1), tmp_path / "out"
    ids = [1.0, 12_345_678.0, 2.5, None]
    log = {"user": pa.array(ids, pa.float64()), "item": [1, 12_345_678, 3, 4], "at": [START + n for n in range(4)]}
    pq.write_table(pa.table(log), data / "log.parquet")
    # Far enough down not to be met with the header, where it is refused at once.
    lines = [f"1,1,{START + n}\n" for n in range(1000)]
    (data / "more.csv").write_bytes("".join(["user,item,at\n", *lines, f"M\xfcller,1,{START}\n"]).encode("latin-1"))
    columns = "user_id: user, item_id: item, event_time: {column: at, unit: s}"
    sources = f"[{{path: log.parquet, format: parquet, {columns}}}, {{path: more.csv, {columns}}}]"
    more = ["--set", f"source.interactions={sources}", "--set", "quality.max_quarantine_share=1"]
    assert run(config, data, out, *more) == 0
    clean = Workspace.open(str(out)).current("clean")
    found = clean.read_table("interactions").to_pydict()
    assert set(zip(found["user_id"], found["item_id"], strict=True)) == {
        ("1", "1"),
        ("12345678", "12345678"),
        ("2.5", "3"),
    }
    assert sorted(clean.read_table("quarantine")["reason"].to_pylist()) == [
        "user_id: empty",
        "user_id: not of the source's encoding",
    ]
    latin = sources.replace("{path: more.csv, ", "{path: more.csv, encoding: latin-1, ")
    assert run(config, data, tmp_path / "again", "--set", f"source.interactions={latin}", *more[2:]) == 0
    found = Workspace.open(str(tmp_path / "again")).current("clean").read_table("interactions")
    assert "Müller" in found["user_id"].to_pylist()


def test_nan_and_infinities_go_to_the_quarantine_each_counted_by_its_rule(spark, config, tmp_path) -> None:
    data, out = write(tmp_path / "data", 1), tmp_path / "out"
    bad = [(math.nan, START, 1.0), (math.inf, START, 1.0)]
    bad += [(1.0, at, 1.0) for at in (math.nan, math.inf)]
    bad += [(1.0, START, stars) for stars in (math.nan, math.inf, -math.inf)]
    users, times, stars = zip(*bad, *[(float(n), START + n, float(n)) for n in range(5)], strict=True)
    log = {"user": users, "item": ["i0"] * len(users), "at": times, "stars": stars}
    pq.write_table(pa.table(log), data / "log.parquet")
    (data / "items.csv").write_text(
        "item,price,image\ni0,1.5,1 2\ni1,NaN,1 2\ni2,-Infinity,1 2\ni3,2,1 nan\ni4,3,inf 1\n"
    )
    overrides = (
        "source.interactions=[{path: log.parquet, format: parquet, user_id: user, item_id: item, "
        "event_time: {column: at, unit: s}, weight: stars}]",
        "source.items=[{path: items.csv, id: item, columns: "
        "{price: {kind: number}, image: {kind: vector, separator: ' '}}}]",
        "quality.max_quarantine_share=1",
    )
    assert run(config, data, out, *(part for override in overrides for part in ("--set", override))) == 0
    clean = Workspace.open(str(out)).current("clean")
    assert clean.manifest.facts["rows"] == {"in": 12, "out": 5, "quarantined": 7, "duplicates": 0}
    assert clean.manifest.facts["content"]["items[0]"]["quarantined"] == 4
    quarantine = clean.read_table("quarantine").to_pydict()
    assert Counter(zip(quarantine["source"], quarantine["reason"], strict=True)) == {
        ("interactions[0]", "user_id: NaN or infinite"): 2,
        ("interactions[0]", "event_time: not a time in s"): 2,
        ("interactions[0]", "weight: NaN or infinite"): 3,
        ("items[0]", "price: NaN or infinite"): 2,
        ("items[0]", "image: a value that is NaN, infinite or not a number"): 2,
    }
    assert sorted(clean.read_table("interactions")["weight"].to_pylist()) == [0, 1, 2, 3, 4]


def test_a_log_whose_times_go_back_and_stand_still_loses_nothing(spark, config, tmp_path, capsys) -> None:
    data, out = write(tmp_path / "data", 1), tmp_path / "out"
    times = [START + n for n in (5, 5, 3, 9, 3, 5, 1)]
    rows = [f"u{n % 2},i{n},{time}" for n, time in enumerate(times)] + [f"u0,i0,{times[0]}"]
    for seed in (1, 2):
        random.Random(seed).shuffle(rows)
        (data / "log.csv").write_text("\n".join(["user,item,at", *rows]))
        log = "[{path: log.csv, user_id: user, item_id: item, event_time: {column: at, unit: s}}]"
        assert run(config, data, out, "--set", f"source.interactions={log}", "--force") == 0
        clean = Workspace.open(str(out)).current("clean")
        assert clean.manifest.facts["rows"] == {"in": 8, "out": 7, "quarantined": 0, "duplicates": 1}
        found = clean.read_table("interactions", ["item_id", "event_time"]).to_pylist()
        assert {row["item_id"]: row["event_time"] // 10**6 for row in found} == {
            f"i{n}": t for n, t in enumerate(times)
        }


def test_events_available_before_they_happened_go_to_the_quarantine(spark, config, tmp_path) -> None:
    data, out = write(tmp_path / "data", 1), tmp_path / "out"
    rows = [f"u,i{n},{START + n},{START + n + (-1 if n == 3 else n % 2)}" for n in range(10)]
    (data / "log.csv").write_text("\n".join(["user,item,at,seen", *rows]))
    times = "event_time: {column: at, unit: s}, available_time: {column: seen, unit: s}"
    log = f"[{{path: log.csv, user_id: user, item_id: item, {times}}}]"
    assert run(config, data, out, "--set", f"source.interactions={log}") == 0
    clean = Workspace.open(str(out)).current("clean")
    assert clean.manifest.facts["rows"] == {"in": 10, "out": 9, "quarantined": 1, "duplicates": 0}
    (bad,) = clean.read_table("quarantine").to_pylist()
    assert (bad["reason"], json.loads(bad["row"])["item"]) == ("available_time: earlier than event_time", "i3")


def test_two_content_rows_of_one_id_and_time_are_a_copy_or_a_contradiction_each_counted(
    spark, config, tmp_path
) -> None:
    data, out = write(tmp_path / "data", 1), tmp_path / "out"
    rows = [f"i{n},rock,{START}" for n in range(8)]
    rows += [f"i1,rock,{START}", f"i2,jazz,{START}", f"i3,jazz,{START + 1}"]  # a copy, a contradiction, a later version
    (data / "genres.csv").write_text("\n".join(["item,genre,at", *rows]))
    items = "{path: genres.csv, id: item, valid_from: {column: at, unit: s}, columns: {genre: {kind: category}}}"
    assert run(config, data, out, "--set", f"source.items=[{items}]") == 0
    clean = Workspace.open(str(out)).current("clean")
    assert clean.manifest.facts["content"]["items[0]"] == {"in": 11, "out": 9, "quarantined": 1, "duplicates": 1}
    bad = [row for row in clean.read_table("quarantine").to_pylist() if row["source"] == "items[0]"]
    assert [row["reason"] for row in bad] == ["valid_from: another row of this id says otherwise at the same time"]
    kept = {(r["item_id"], r["valid_from"] // 10**6): r["genre"] for r in clean.read_table("items").to_pylist()}
    assert len(kept) == 9 and kept["i3", START + 1] == "jazz"
    assert kept["i2", START] in ("rock", "jazz")  # the smallest by value, whatever the order


def test_zone_less_times_across_a_change_of_clocks_are_refused_until_the_zone_is_given(
    spark, config, tmp_path, capsys
) -> None:
    data = write(tmp_path / "data", 1)
    local = ["2023-10-29 01:30:00", "2023-10-29 02:30:00", "2023-10-29 03:30:00"]
    (data / "log.csv").write_text("\n".join(["user,item,at", *(f"u,i{n},{time}" for n, time in enumerate(local))]))

    def override(zone):
        return (
            f"source.interactions=[{{path: log.csv, user_id: user, item_id: item, event_time: {{column: at{zone}}}}}]"
        )

    assert run(config, data, tmp_path / "no", "--set", override("")) == 2
    said = capsys.readouterr().err
    assert "times without a zone need one" in said and "event_time.zone, such as zone: UTC" in said
    assert run(config, data, tmp_path / "out", "--set", override(", zone: Europe/Oslo")) == 0
    log = Workspace.open(str(tmp_path / "out")).current("clean").read_table("interactions").sort_by("item_id")
    utc = [dt.datetime(2023, 10, 28, 23, 30), dt.datetime(2023, 10, 29, 0, 30), dt.datetime(2023, 10, 29, 2, 30)]
    assert [t // 10**6 for t in log["event_time"].to_pylist()] == [
        int(t.replace(tzinfo=dt.UTC).timestamp()) for t in utc
    ]


def test_items_that_the_catalogue_lacks_stay_in_the_log_and_are_counted_in_a_note(
    spark, config, tmp_path, capsys
) -> None:
    data, out = write(tmp_path / "data", 1), tmp_path / "out"
    clicks = f"source.interactions=[{{{CLICKS}, event_time: {{column: at, unit: s}}}}]"
    assert run(config, data, out, "--set", clicks, "--set", "source.items=[{path: items.csv, id: item}]") == 0
    (note,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert "2 items of the log are not in source.items, and so without content; check that both write ids" in note
    log = Workspace.open(str(out)).current("clean").read_table("interactions", ["item_id"])
    assert set(log["item_id"].to_pylist()) == {f"i{n}" for n in range(7)}


@pytest.mark.parametrize(
    ("broken", "override", "message"),
    [
        (
            "clicks",
            "name=small",
            r"interactions\[0\]\.path must name a file.*found nothing at .*/clicks; correct the path",
        ),
        ("log", "name=small", r"the log must have rows, .*interactions\[0\].* has none; correct its path, or --data"),
        (
            "",
            "source.items=[{path: items.csv, id: itme}]",
            r"items\[0\]\.id names column 'itme'.*did you mean 'item'\?",
        ),
        (
            "",
            "source.interactions=[{path: clicks, user_id: usr, item_id: item, event_time: {column: at, unit: s}}]",
            r"interactions\[0\]\.user_id names column 'usr'.*has \['user', 'item', 'at'\]; did you mean 'user'\?",
        ),
        (
            "",
            "source.items=[{path: items.csv, separator: ';', id: item}]",
            "is not separated by ';'; set separator: \",\"",
        ),
        (
            "",
            f"source.interactions=[{{{CLICKS}, separator: ';', event_time: {{column: at, unit: s}}}}]",
            "is not separated by ';'; set separator: \",\"",
        ),
        ("", "source.interactions=[]", "source.interactions must name at least one log"),
        (
            "",
            "source.items=[{path: days.parquet, format: parquet, id: item, columns: {day: {kind: number}}}]",
            "day: a number cannot be read from date; choose another column",
        ),
        (
            "",
            "quality.event_kye=[user_id]",
            r"unknown configuration key `quality\.event_kye`; did you mean `event_key`\?",
        ),
    ],
)
def test_a_user_s_mistake_is_one_message_and_code_2(spark, config, tmp_path, capsys, broken, override, message) -> None:
    data = write(tmp_path / "data", 1)
    pq.write_table(pa.table({"item": ["i0"], "day": [dt.date(2024, 1, 1)]}), data / "days.parquet")
    if broken == "clicks":
        (data / "clicks").rename(data / "elsewhere")
    if broken == "log":
        for file in (*(data / "clicks").iterdir(), data / "views.jsonl"):
            file.write_text(
                "user,item,at\n" if file.suffix == ".csv" else ""
            ) if file.suffix != ".gz" else file.unlink()
    assert run(config, data, tmp_path / "out", "--set", override) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and said.count("thaw: ") == 1 and "Traceback" not in said
    assert Workspace.open(str(tmp_path / "out")).current("clean") is None


def test_the_example_configurations_are_valid() -> None:
    for name in ("demo", "movielens", "globo"):
        assert load_config([ROOT / "conf" / f"{name}.yaml"]).name == name


def lines_of_days(*days: int) -> str:
    """A click an hour; the last of each day arrives three hours into the next."""
    lines = ["user,item,at,seen"]
    for at in (MIDNIGHT + day * 86_400 + hour * 3_600 for day in days for hour in range(24)):
        late = 4 * 3_600 if at % 86_400 == 23 * 3_600 else 0
        lines.append(f"u{at % 7},i{at % 5},{at},{at + late}")
    return "\n".join(lines)


AS_OF_CONFIG = """
name: small
seed: 1
source:
  interactions:
    - path: "*.csv"
      user_id: user
      item_id: item
      event_time: {column: at, unit: s}
      available_time: {column: seen, unit: s}
      action_value: click
labels: {rule: sampled, positive_actions: [click]}
preferences: {period: 1d, landing_delay: 1h}
storage: {parquet_files: 1}
"""
MIDNIGHT = START - START % 86_400
"""2023-11-14T00:00Z."""


def as_of(config, day):
    return load_config([config], [f"source.as_of='{day}'"])


def test_a_day_is_the_same_read_again_later_and_longer_and_counts_every_row(spark, tmp_path, capsys) -> None:
    config, data = tmp_path / "day.yaml", tmp_path / "data"
    config.write_text(AS_OF_CONFIG)
    data.mkdir()
    (data / "a.csv").write_text(lines_of_days(0))
    digests = []
    for out in ("once", "later"):
        found = execute(JOB, as_of(config, "2023-11-15"), Workspace.open(str(tmp_path / out)), str(data)).dataset
        # What happened at 23:00 arrives at 03:00 of the next day, after the landing delay.
        assert found.manifest.facts["rows"] == {"in": 23, "out": 23, "quarantined": 0, "duplicates": 0}
        assert found.read_table("interactions")["event_time"].to_pylist()[-1] == (MIDNIGHT + 22 * 3_600) * 1_000_000
        digests.append(found.manifest.content_digest)
        (data / "b.csv").write_text(lines_of_days(1))
    assert digests[0] == digests[1]
    assert "left for later runs, as they came into sight after --as-of: interactions[0] 25" in capsys.readouterr().err
    # The day after has what had come late, and a delivery that arrives twice changes none of its rows.
    workspace, shards = Workspace.open(str(tmp_path / "next")), []
    for duplicates in (0, 23):
        found = execute(JOB, as_of(config, "2023-11-16"), workspace, str(data)).dataset
        assert found.manifest.facts["rows"] == {
            "in": 47 + duplicates, "out": 47, "quarantined": 0, "duplicates": duplicates,
        }  # fmt: skip
        shards.append(found.manifest.tables["interactions"].shards)
        (data / "b_again.csv").write_text(lines_of_days(1))
    assert shards[0] == shards[1]


def test_a_day_without_data_and_one_that_has_not_landed_are_told(spark, tmp_path, capsys) -> None:
    config, data = tmp_path / "day.yaml", tmp_path / "data"
    config.write_text(AS_OF_CONFIG)
    data.mkdir()
    (data / "a.csv").write_text(lines_of_days(0))
    for as_of in ("2023-11-25", "2000-01-01"):
        assert run(config, data, tmp_path / "out", "--as-of", as_of) == 4
        assert f"the log must have events of the 1d before {as_of}, it has none" in capsys.readouterr().err
    # Nothing happened in the last six hours, but in the day.
    assert run(config, data, tmp_path / "six", "--as-of", "2023-11-15T06:00", "--set", "preferences.period=6h") == 0
    assert run(config, data, tmp_path / "out", "--as-of", "2099-01-01") == 2
    assert "source.as_of must be a moment whose events have landed, got 2099-01-01" in capsys.readouterr().err
    assert not list((tmp_path / "out" / "clean").glob("*/manifest.json"))
