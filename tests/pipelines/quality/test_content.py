import pytest

from pipelines.config import ContentColumn, ContentSource, QualityOptions, TimeColumn
from pipelines.errors import ConfigError
from pipelines.quality.content import check_content, judge_vectors, parse_content
from pipelines.quality.read import read_source
from schemas.columns import TIME_MIN_US

COLUMNS = {
    "genres": ContentColumn(kind="categories", separator="|", drop=("(none)",)),
    "year": ContentColumn(kind="number", column="title", pattern=r"\((\d{4})\)$"),
    "price": ContentColumn(kind="number"),
    "vector": ContentColumn(kind="vector", separator=" "),
}


def test_content_values_are_typed_and_a_row_that_cannot_be_is_bad(spark, tmp_path) -> None:
    (tmp_path / "items.csv").write_text(
        "id,title,genres,price,vector\n"
        'a,"Up, again (1999)",b|a| b ||(none),1.5,1 2\n'
        "b,Nameless,(none),,\n"
        "c,,x,free,1 2\n"
        "d,,x,NaN,1 2\n"
        "e,,x,1,1 inf\n"
        "f,,x,1,1 2 3\n"
        ",,x,1,1 2\n"
    )
    source = ContentSource(path="items.csv", id="id", title="title", columns=COLUMNS)
    (raw,) = read_source(spark, str(tmp_path), "items[0]", source)
    found = {row["id"]: row for row in judge_vectors(parse_content(raw, source, QualityOptions()), source).collect()}
    values = {key: tuple(found[key][name] for name in ("title", *COLUMNS, "valid_from", "reason")) for key in "ab"}
    assert values["a"] == ("Up, again (1999)", ["b", "a"], 1999.0, 1.5, [1.0, 2.0], TIME_MIN_US, None)
    assert values["b"] == ("Nameless", None, None, None, None, TIME_MIN_US, None)
    assert {key: row["reason"] for key, row in found.items() if row["reason"]} == {
        "c": "price: not a number",
        "d": "price: NaN or infinite",
        "e": "vector: a value that is NaN, infinite or not a number",
        "f": "vector: not 2 numbers as in other rows",
        None: "id: empty",
    }


def test_lists_come_from_json_lines_as_lists_and_times_may_be_unknown_for_created_at_alone(spark, tmp_path) -> None:
    (tmp_path / "items.jsonl").write_text(
        '{"id": 1, "tags": ["x", null, "y", "x"], "v": [1, 2.5], "at": 1700000000, "born": null}\n'
        '{"id": 2, "tags": "single", "at": null}\n'
        '{"id": 3, "tags": [], "at": 1700000, "born": 1}\n'
    )
    source = ContentSource(
        path="items.jsonl",
        format="jsonl",
        id="id",
        valid_from=TimeColumn(column="at", unit="s"),
        created_at=TimeColumn(column="born", unit="s"),
        columns={"tags": ContentColumn(kind="categories"), "v": ContentColumn(kind="vector")},
    )
    (raw,) = read_source(spark, str(tmp_path), "items[0]", source)
    rows = sorted(parse_content(raw, source, QualityOptions()).collect(), key=lambda row: row["id"])
    assert [(row["tags"], row["v"], row["created_at"]) for row in rows[:1]] == [(["x", "y"], [1.0, 2.5], None)]
    assert [row["reason"] for row in rows] == [
        None,
        "valid_from: empty",
        "valid_from: before 1990-01-01; is unit: s right?",
    ]
    assert [row["tags"] for row in rows[1:]] == [["single"], None]


def test_options_that_contradict_each_other_are_configuration_errors() -> None:
    def check(**options):
        check_content("items[0]", ContentSource(path="x", id="id", **options))

    tags = {"tags": ContentColumn(kind="categories")}
    with pytest.raises(ConfigError, match="set valid_from"):
        check(accumulate=True, columns=tags)
    with pytest.raises(ConfigError, match=r"accumulate adds up `categories` columns alone, got \['price'\]"):
        check(accumulate=True, columns={**tags, "price": ContentColumn(kind="number")})
    with pytest.raises(ConfigError, match="must have a group"):
        check(columns={"year": ContentColumn(kind="number", pattern=r"\d+")})
    with pytest.raises(ConfigError, match="must be a regular expression"):
        check(columns={"year": ContentColumn(kind="number", pattern="(")})
