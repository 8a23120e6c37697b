"""The version in effect: the largest valid_from at or before a row's time, and no other."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.content.as_of import attach_content

VERSIONS = "item_id string, valid_from long, title string, tags array<string>, price double"
ROWS = "item_id string, event_time long, note string"


def attached(spark, rows, versions, partitions: int = 2) -> list[tuple]:
    frame = attach_content(
        spark.createDataFrame(rows, ROWS).repartition(partitions),
        spark.createDataFrame(versions, VERSIONS).repartition(partitions),
        id="item_id",
        time="event_time",
        columns={"tags": "item_tags", "price": "item_price"},
    )
    assert frame.columns == ["item_id", "event_time", "note", "item_tags", "item_price"]
    return sorted((tuple(row) for row in frame.collect()), key=lambda row: (row[:2], repr(row)))


def test_the_version_from_the_row_s_own_time_on_applies_and_a_later_one_does_not(spark) -> None:
    versions = [("a", 10, "old", ["x"], 1.0), ("a", 20, "new", ["y", "z"], None), ("b", 30, "late", ["w"], 3.0)]
    rows = [("a", 9, ""), ("a", 10, ""), ("a", 19, ""), ("a", 20, ""), ("b", 29, ""), ("c", 50, "")]
    assert attached(spark, rows, versions) == [
        ("a", 9, "", None, None),
        ("a", 10, "", ["x"], 1.0),
        ("a", 19, "", ["x"], 1.0),
        ("a", 20, "", ["y", "z"], None),
        ("b", 29, "", None, None),
        ("c", 50, "", None, None),
    ]


@settings(deadline=None, max_examples=5)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), unique=True, max_size=8),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 10)), max_size=12),
    st.integers(1, 4),
)
def test_content_is_that_of_the_definition(spark, dated, asked, partitions) -> None:
    versions = [(id, time, None, [f"{id}{time}"], float(time)) for id, time in dated]
    rows = [(id, time, "same") for id, time in asked]
    expected = []
    for id, time in asked:
        last = max((t for other, t in dated if other == id and t <= time), default=None)
        content = (None, None) if last is None else ([f"{id}{last}"], float(last))
        expected.append((id, time, "same", *content))
    found = attached(spark, rows, versions, partitions)
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
