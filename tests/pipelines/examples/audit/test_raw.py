"""Raw rows read again by plain Python: what the pipeline reads alike passes, what it would move does not."""

import datetime as dt
import gzip
import json
import os
from dataclasses import replace
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from pipelines.config import InteractionSource, QualityOptions, TimeColumn, parse_config
from pipelines.examples.audit.raw import RawData, check_raw
from pipelines.examples.audit.raw_rows import sample_rows
from pipelines.examples.audit.raw_values import Unsupported, event_of, moment
from pipelines.examples.tables import Tables
from pipelines.quality import clean
from pipelines.quality import parse as parse_module

HOUR = 3_600_000_000
NEW_YEAR = 1_735_689_600_000_000
"""2025-01-01T00:00Z."""


@pytest.mark.parametrize(
    ("value", "time", "expected"),
    [
        ("1735689600", {"unit": "s"}, NEW_YEAR),
        ("1735689600.5", {"unit": "s"}, NEW_YEAR + 500_000),
        (1735689600123, {"unit": "ms"}, NEW_YEAR + 123_000),
        ("1735689600000000999", {"unit": "ns"}, NEW_YEAR),
        ("2025-01-01T01:00:00+01:00", {}, NEW_YEAR),
        ("2025-01-01 01:00:00", {"zone": "Europe/Oslo"}, NEW_YEAR),
        ("2025-07-01", {"zone": "Europe/Oslo"}, NEW_YEAR + 181 * 24 * HOUR - 2 * HOUR),
        ("2024-12-31 19:00", {"zone": "-05:00"}, NEW_YEAR),
        ("01/01/2025 01:00:00.250", {"unit": "format", "format": "dd/MM/yyyy HH:mm:ss.SSS", "zone": "+01:00"},
         NEW_YEAR + 250_000),
        ("2025-01-01T00:00:00Z", {"unit": "format", "format": "yyyy-MM-dd'T'HH:mm:ssXXX"}, NEW_YEAR),
        (dt.datetime(2025, 1, 1), {"zone": "UTC"}, NEW_YEAR),
        (dt.date(2025, 1, 1), {"zone": "UTC"}, NEW_YEAR),
        ("2025-01-01", {}, None),
        ("12:30", {"zone": "UTC"}, None),
        ("NaN", {"unit": "s"}, None),
        ("", {"unit": "s"}, None),
        (None, {}, None),
        (True, {"unit": "s"}, None),
    ],
)  # fmt: skip
def test_a_moment_is_read_as_the_configuration_says(value, time, expected) -> None:
    assert moment(value, TimeColumn(column="t", **time)) == expected


def test_what_plain_python_does_not_know_is_said() -> None:
    with pytest.raises(Unsupported, match="nothing like 'G'"):
        moment("x", TimeColumn(column="t", unit="format", format="G yyyy", zone="UTC"))
    with pytest.raises(Unsupported, match="no zone 'Nowhere'"):
        moment("2025-01-01", TimeColumn(column="t", zone="Nowhere"))


@pytest.mark.parametrize(
    "change",
    [
        {"u": " "}, {"i": None}, {"u": "b\ufffdd"}, {"t": "1735689600000"}, {"t": "soon"}, {"a": "1735689599"},
        {"what": "hover"}, {"n": "nan"}, {"n": "9"}, {"n": None},
    ],
)  # fmt: skip
def test_a_row_that_breaks_a_rule_is_no_event(change) -> None:
    seconds = {"unit": "s"}
    source = InteractionSource(
        path="x", user_id="u", item_id="i", action="what", weight="n",
        event_time=TimeColumn(column="t", **seconds), available_time=TimeColumn(column="a", **seconds),
    )  # fmt: skip
    options = QualityOptions(actions=("click",), weight_range=(0, 5))
    good = {"u": "u1", "i": 7.0, "t": "1735689600", "a": "1735689601", "what": "click", "n": "2"}
    event = event_of(good, source, options)
    assert event is not None and event["item_id"] == "7" and event["weight"] == 2.0
    assert event_of({**good, **change}, source, options) is None


SHOP = {
    "name": "raw",
    "seed": 1,
    "source": {
        "interactions": [
            {
                "path": "log/*.csv*",
                "user_id": "user",
                "item_id": "item",
                "event_time": {"column": "at", "zone": "Europe/Oslo"},
                "available_time": {"column": "seen", "unit": "ms"},
                "action": "what",
                "weight": "stars",
            },
            {
                "path": "more.jsonl",
                "format": "jsonl",
                "user_id": "user",
                "item_id": "item",
                "event_time": {"column": "at", "unit": "s"},
                "availability_lag": "10m",
                "action_value": "click",
            },
        ],
        "items": [
            {
                "path": "items.parquet",
                "format": "parquet",
                "id": "item",
                "valid_from": {"column": "since", "zone": "Europe/Oslo"},
                "created_at": {"column": "made"},
                "columns": {"colour": {"kind": "category"}},
            }
        ],
        "users": [{"path": "users.csv", "id": "user", "columns": {"country": {"kind": "category"}}}],
    },
    "quality": {"actions": ["click", "view"]},
    "labels": {"rule": "sampled", "positive_actions": ["click"]},
}
CONFIG = parse_config(SHOP)
START = dt.datetime(2025, 3, 29, 22, tzinfo=dt.UTC)
"""Oslo's clocks go forward within this log."""


def write_raw(folder) -> None:
    """Two CSV files (one compressed), JSON lines and a catalogue, with copies and broken rows among them."""
    (folder / "log").mkdir()
    lines = []
    for n in range(60):
        at = (START + n * dt.timedelta(minutes=7)).astimezone(dt.timezone(dt.timedelta(hours=1)))
        oslo = at.astimezone(ZoneInfo("Europe/Oslo")).strftime("%Y-%m-%d %H:%M:%S")
        seen = int(at.timestamp() * 1000) + 5_000
        lines.append(f'u{n % 7},"i{n % 5}",{oslo},{seen},click,{n % 4 + 0.5}')
        if n % 10 == 0:
            lines.append(f"u{n % 7},i{n % 5},{oslo},{seen + 60_000},click,{n % 4 + 0.5}")  # a copy, later
            lines.append(f"u{n % 7},i{n % 5},{oslo},{seen - 600_000},click,1")  # seen before it happened
            lines.append(f"u{n % 7},i{n % 5},{oslo}")
    header = "user,item,at,seen,what,stars"
    (folder / "log" / "a.csv").write_text("\n".join([header, *lines[:40], ""]))
    (folder / "log" / "b.csv.gz").write_bytes(gzip.compress("\n".join([header, *lines[40:], ""]).encode()))
    rows = [{"user": f"u{n}", "item": n, "at": 1_743_300_000 + n} for n in range(5)]
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    since = [dt.datetime(2025, 1, 1, n) for n in range(5)]
    made = pa.array([1_735_000_000_000_000 + n for n in range(5)], pa.timestamp("us", "UTC"))
    colours = pa.array(["red"] * 5)
    items = {"item": [f"i{n}" for n in range(5)], "since": since, "made": made, "colour": colours}
    pq.write_table(pa.table(items), folder / "items.parquet")
    (folder / "users.csv").write_text("user,country\nu1,no\n")


def cleaned(spark, folder) -> tuple[Tables, RawData]:
    """The raw shop, through the pipeline's own parser."""
    marked = {"interactions": clean.marked_log(spark, str(folder), CONFIG).rows}
    marked |= {
        label: clean.marked_content(spark, str(folder), label, CONFIG).rows for label in ("items[0]", "users[0]")
    }
    tables = Tables(
        clean.interactions(marked["interactions"]).cache(),
        clean.content(spark, "item", {"items[0]": marked["items[0]"]}, CONFIG).cache(),
        clean.content(spark, "user", {"users[0]": marked["users[0]"]}, CONFIG).cache(),
    )
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    return tables, RawData(str(folder), clean.quarantine(*marked.values()).cache(), later)


@pytest.fixture(scope="module")
def shop(spark, tmp_path_factory) -> tuple[Tables, RawData]:
    """The raw shop, honestly cleaned."""
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder)
    return cleaned(spark, folder)


def failed(checks) -> dict[str, str]:
    return {check.name.removeprefix("raw rows: "): check.detail for check in checks if not check.passed}


def test_an_honest_parser_agrees_and_says_what_was_not_compared(shop) -> None:
    tables, raw = shop
    checks, skipped = check_raw(raw, tables, CONFIG, 200)
    assert failed(checks) == {}
    assert [check.name for check in checks] == [
        "raw rows: interactions[0]", "raw rows: interactions[1]", "raw rows: items[0]",
    ]  # fmt: skip
    assert all(check.kind == "raw" for check in checks)
    assert [check.checked for check in checks] == [66, 5, 5]  # 60 events and 6 copies; broken rows are not compared
    assert "copies (6)" in checks[0].detail
    assert [(s.name, s.why) for s in skipped] == [("raw rows: users[0]", "its rows say nothing of when")]


def test_without_raw_data_the_report_says_that_it_did_not_look(shop) -> None:
    checks, skipped = check_raw(None, shop[0], CONFIG, 200)
    assert checks == []
    assert [s.why.partition(";")[0] for s in skipped[:3]] == ["the raw data was not there"] * 3


def test_a_zone_off_by_hours_is_caught(spark, tmp_path, monkeypatch) -> None:
    write_raw(tmp_path)
    honest = parse_module.parse_time

    def in_utc(value, kind, time, key):
        moment, problem = honest(value, kind, time, key)
        return moment - HOUR if time.zone else moment, problem

    monkeypatch.setattr(parse_module, "parse_time", in_utc)
    tables, raw = cleaned(spark, tmp_path)
    checks, _ = check_raw(raw, tables, CONFIG, 200)
    broken = failed(checks)
    assert set(broken) == {"interactions[0]", "items[0]"}
    assert "event_time: published" in broken["interactions[0]"] and "valid_from: published" in broken["items[0]"]
    assert "check its unit, zone and columns" in broken["interactions[0]"]


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("available_time", f"available_time - {HOUR}"),  # not explained as copies, for all are
        ("available_time", "available_time + 1"),
        ("weight", "weight + 1"),
        ("user_id", "concat(user_id, 'x')"),
    ],
)
def test_clean_rows_that_say_something_else_are_caught(shop, column, change) -> None:
    tables, raw = shop
    moved = replace(tables, interactions=tables.interactions.withColumn(column, F.expr(change)))
    assert "interactions[0]" in failed(check_raw(raw, moved, CONFIG, 200)[0])


def test_a_lost_row_is_caught_and_one_set_aside_is_not(shop) -> None:
    tables, raw = shop
    kept = tables.interactions.where("not (user_id = 'u3' and item_id = '3')")
    broken = failed(check_raw(raw, replace(tables, interactions=kept), CONFIG, 200)[0])
    assert "user u3, item 3 at 1743300003000000 is neither in the clean log nor set aside" in broken["interactions[1]"]
    row = json.dumps({"user": "u3", "item": 3, "at": 1_743_300_003})
    aside = kept.sparkSession.createDataFrame([("interactions[1]", "more.jsonl", "a rule", row)], raw.quarantine.schema)
    explained = replace(raw, quarantine=raw.quarantine.union(aside))
    assert failed(check_raw(explained, replace(tables, interactions=kept), CONFIG, 200)[0]) == {}


def test_rows_that_a_day_could_not_see_yet_are_no_loss_and_its_own_are(shop) -> None:
    tables, raw = shop
    day = parse_config({**SHOP, "source": {**SHOP["source"], "as_of": "2025-03-30"}})
    assert day.horizon is not None
    seen = tables.interactions.where(f"event_time < {day.horizon.as_of}")
    checks, skipped = check_raw(raw, replace(tables, interactions=seen), day, 200)
    assert failed(checks) == {} and 15 < checks[0].checked < 30
    assert "finds none of 5 sampled rows valid" in skipped[0].why  # all of them are of the next day
    fewer = replace(tables, interactions=seen.where(f"event_time < {day.horizon.as_of - HOUR}"))
    assert "interactions[0]" in failed(check_raw(raw, fewer, day, 200)[0])


def test_files_that_came_after_the_clean_tables_are_left_out(shop, tmp_path) -> None:
    tables, _ = shop
    write_raw(tmp_path)
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    raw = RawData(str(tmp_path), shop[1].quarantine, before)
    _, skipped = check_raw(raw, tables, CONFIG, 200)
    assert "newer than the clean tables" in skipped[0].why
    os.utime(tmp_path / "more.jsonl", (0, 0))
    assert [check.name for check in check_raw(raw, tables, CONFIG, 200)[0]] == ["raw rows: interactions[1]"]


def test_data_that_is_gone_is_said(shop, tmp_path) -> None:
    _, skipped = check_raw(replace(shop[1], folder=str(tmp_path)), shop[0], CONFIG, 200)
    assert "found nothing at" in skipped[0].why


def test_a_bounded_part_of_a_large_file_is_read_its_end_included(tmp_path) -> None:
    source = CONFIG.source.interactions[0]
    row = "u1,i{n},2025-01-01 00:00:00,1735689700000,click,1\n"
    (tmp_path / "big.csv").write_text(
        "user,item,at,seen,what,stars\n" + "".join(row.format(n=n) for n in range(40_000))
    )
    rows = sample_rows([str(tmp_path / "big.csv")], source, 4_000, seed=3)
    numbers = [int(row.values["item"][1:]) for row in rows]
    assert len(set(numbers)) == 4_000 and min(numbers) < 5_000 and max(numbers) > 39_000
    assert rows == sample_rows([str(tmp_path / "big.csv")], source, 4_000, seed=3)
    assert rows != sample_rows([str(tmp_path / "big.csv")], source, 4_000, seed=4)
