import random

from pyspark.sql import functions as F

from pipelines.quality.versions import CONFLICT, mark_content_copies, merge_versions, streams
from schemas.columns import TIME_MIN_US
from schemas.content import content_table

TABLE = content_table("item", {"genre": "category", "tags": "categories"})
JUDGED = (
    "source string, file string, reason string, row string, id string, valid_from long, created_at long, title string"
)


def judged(spark, column, rows):
    """Rows of (id, valid_from, value), in random order."""
    mixed = [("s", "f", None, f"{row}", row[0], row[1], None, None, row[2]) for row in rows]
    random.Random(len(rows)).shuffle(mixed)
    return spark.createDataFrame(mixed, f"{JUDGED}, {column}").repartition(3)


def test_tags_accumulate_and_other_sources_are_filled_forward(spark) -> None:
    genres = judged(spark, "genre string", [("a", TIME_MIN_US, "old"), ("a", 20, None), ("b", TIME_MIN_US, "x")])
    tags = judged(
        spark,
        "tags array<string>",
        [("a", 10, ["q", "p"]), ("a", 10, ["n"]), ("a", 30, ["p"]), ("a", 40, ["m", "q"]), ("c", 5, ["z"])],
    )
    parts = streams(genres, ["genre"], accumulate=False) + streams(tags, ["tags"], accumulate=True)
    merged = merge_versions(spark, parts, TABLE)
    assert merged.columns == TABLE.names
    found = sorted((r["item_id"], r["valid_from"], r["genre"], r["tags"]) for r in merged.collect())
    assert found == [
        ("a", TIME_MIN_US, "old", None),
        ("a", 10, "old", ["n", "p", "q"]),  # equal times go by value
        ("a", 20, None, ["n", "p", "q"]),  # a newer row replaces its source's older one whole
        ("a", 40, None, ["n", "p", "q", "m"]),  # first seen first; nothing new at 30
        ("b", TIME_MIN_US, "x", None),
        ("c", 5, None, ["z"]),
    ]


def test_equal_rows_are_copies_and_rows_that_contradict_are_bad_whatever_their_order(spark) -> None:
    rows = [("a", 1, "x"), ("a", 1, "x"), ("a", 1, "y"), ("a", 2, "y"), ("b", 1, None)]
    for mixed in (rows, [*rows[::-1]]):
        marked = mark_content_copies(judged(spark, "genre string", mixed), ["genre"], accumulate=False)
        found = sorted(
            (r["id"], r["valid_from"], str(r["genre"]), str(r["reason"]), r["copy"]) for r in marked.collect()
        )
        assert found == [
            ("a", 1, "x", "None", False),
            ("a", 1, "x", "None", True),
            ("a", 1, "y", CONFLICT, False),
            ("a", 2, "y", "None", False),
            ("b", 1, "None", "None", False),
        ]


def test_rows_that_accumulate_do_not_contradict(spark) -> None:
    rows = [("a", 1, ["x"]), ("a", 1, ["y"]), ("a", 1, ["x"])]
    marked = mark_content_copies(judged(spark, "tags array<string>", rows), ["tags"], accumulate=True)
    assert marked.filter(F.col("reason").isNotNull()).count() == 0
    assert marked.filter("copy").count() == 1


def test_a_side_without_sources_is_an_empty_table_of_the_contract(spark) -> None:
    empty = merge_versions(spark, [], TABLE)
    assert (empty.columns, empty.count()) == (TABLE.names, 0)
