import datetime as dt
import gzip
import json
import re

import pandas as pd
import pytest

from pipelines.config import InteractionSource, TimeColumn
from pipelines.errors import SourceError
from pipelines.quality.read import read_source, readable
from pipelines.quality.times import parse_time


def log(path, **more):
    time = more.pop("event_time", TimeColumn(column="time", unit="s"))
    return InteractionSource(path=path, user_id="user", item_id="item", event_time=time, **more)


def read(spark, folder, source):
    """Every row as (user, item, time, file, broken, row as JSON)."""
    rows = []
    for raw in read_source(spark, str(folder), "interactions[0]", source):
        columns = [raw.columns[name].cast("string") for name in ("user", "item", "time")]
        found = raw.frame.select(*columns, raw.file, raw.broken, raw.row).collect()
        rows += [(*row[:5], json.loads(row[5])) for row in found]
    return sorted(rows, key=str)


def test_a_folder_of_csv_keeps_each_row_whole_whatever_its_files_look_like(spark, tmp_path) -> None:
    logs = tmp_path / "my logs+1"
    logs.mkdir()
    (logs / "a.csv").write_text('user,item,time\n1,"x ""y"", z",10\n2,b\n')
    (logs / "b.csv.gz").write_bytes(gzip.compress(b"time,extra,user,item\n20,e,3,c\n"))
    (logs / "header_only.csv").write_text("user,item,time\n")
    (logs / "empty.csv").write_text("")
    found = read(spark, tmp_path, log("my logs+1"))
    assert found == [
        ("1", 'x "y", z', "10", "my logs+1/a.csv", None, {"user": "1", "item": 'x "y", z', "time": "10"}),
        ("2", "b", None, "my logs+1/a.csv", "row: not 3 columns at separator ','", {"line": "2,b"}),
        ("3", "c", "20", "my logs+1/b.csv.gz", None, {"time": "20", "extra": "e", "user": "3", "item": "c"}),
    ]


def test_a_csv_without_header_takes_its_names_from_the_configuration(spark, tmp_path) -> None:
    (tmp_path / "log[1].dat").write_text("1::a::10\n2::b::20\n")
    source = log("log[1].dat", separator="::", header=False, names=("user", "item", "time"))
    assert [row[:3] for row in read(spark, tmp_path, source)] == [("1", "a", "10"), ("2", "b", "20")]
    with pytest.raises(SourceError, match=r"3 columns .* names lists 2"):
        read_source(spark, str(tmp_path), "interactions[0]", source.model_copy(update={"names": ("user", "item")}))
    with pytest.raises(SourceError, match=r"set names: "):
        read_source(spark, str(tmp_path), "interactions[0]", source.model_copy(update={"names": None}))


@pytest.mark.parametrize("right", [";", "|", "::", " "])
def test_a_wrong_separator_is_an_error_that_proposes_the_right_one(spark, tmp_path, right) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\n1,a,10\n".replace(",", right))
    with pytest.raises(SourceError, match=re.escape(f"not separated by ','; set separator: \"{right}\"")):
        read_source(spark, str(tmp_path), "interactions[0]", log("log.csv"))


def test_json_lines_keep_every_digit_and_lines_that_are_no_objects(spark, tmp_path) -> None:
    (tmp_path / "log.jsonl").write_text(
        '{"user": 1, "item": "a", "time": 1506825423271737123, "x": [1]}\n\n{"user": 2\n7\n'
    )
    found = read(spark, tmp_path, log("log.jsonl", format="jsonl"))
    assert [row[:3] for row in found if row[4] is None] == [("1", "a", "1506825423271737123")]
    assert sorted(row[5]["line"] for row in found if row[4] == "row: not a JSON object") == ["7", '{"user": 2']


def test_json_lines_lack_a_column_only_where_no_line_has_it(spark, tmp_path) -> None:
    lines = ['{"user": 1, "time": 1}'] * 1_100
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"item": "rare"}']))
    source = log("log.jsonl", format="jsonl")
    assert "rare" in {row[1] for row in read(spark, tmp_path, source)}
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    with pytest.raises(SourceError, match=r"'item', .* has \['time', 'user'\]"):
        read_source(spark, str(tmp_path), "interactions[0]", source)


def test_csv_taken_for_json_lines_or_parquet_is_one_clear_error(spark, tmp_path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\n1,a,10\n")
    with pytest.raises(SourceError, match="every line of JSON lines must be an object"):
        read_source(spark, str(tmp_path), "interactions[0]", log("log.csv", format="jsonl"))
    with pytest.raises(SourceError, match=r"log.csv is not a Parquet file"):
        read_source(spark, str(tmp_path), "interactions[0]", log("log.csv", format="parquet"))


def test_parquet_by_pandas_is_read_with_its_own_types_and_folder_columns(spark, tmp_path) -> None:
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, 678_901)
    for day, user in (("1", 1), ("2", 2)):
        folder = tmp_path / "log" / f"day={day}"
        folder.mkdir(parents=True)
        pd.DataFrame({"user": [user], "item": ["a"], "time": pd.to_datetime([moment])}).to_parquet(folder / "p.parquet")
    (raw,) = read_source(spark, str(tmp_path), "interactions[0]", log("log", format="parquet"))
    assert raw.type_of("time").typeName().startswith("timestamp")
    micros = (moment - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
    at, problem = parse_time(raw.columns["time"], raw.type_of("time"), TimeColumn(column="time", zone="UTC"), "k")
    assert {tuple(row) for row in raw.frame.select(at, problem).collect()} == {(micros, None)}
    assert sorted(row[0] for row in raw.frame.select(raw.columns["day"]).collect()) == [1, 2]
    assert sorted(row[0] for row in raw.frame.select(raw.file).collect()) == [
        "log/day=1/p.parquet",
        "log/day=2/p.parquet",
    ]


def test_a_file_that_breaks_off_is_an_error_that_names_it(spark, tmp_path) -> None:
    whole = gzip.compress(("user,item,time\n" + "".join(f"{n},a,{n * 7919}\n" for n in range(20_000))).encode())
    (tmp_path / "log.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"cannot be read.*log.csv.gz"), readable("interactions[0]"):
        read(spark, tmp_path, log("log.csv.gz"))
