import pytest

FOREVER = 2**63 - 1
EXAMPLES = "as_of long, known_by long, event_time long, label float, split string"


@pytest.fixture
def examples(spark):
    def make(*rows):
        return spark.createDataFrame([(b, b + 1, t, float(label), split) for b, t, label, split in rows], EXAMPLES)

    return make


def intervals(frame):
    return {(r.item_id, r.in_effect_from, r.in_effect_to, r["_item_version"]) for r in frame.collect()}


def test_clocks_are_those_of_held_out_positives_with_the_time_of_the_last(examples, config) -> None:
    from pipelines.examples.candidates import evaluation_clocks

    rows = examples(
        (10, 12, 1, "train"),
        (20, 22, 0, "validation"),
        (30, 32, 1, "validation"),
        (30, 38, 1, "test"),
        (30, 39, 0, "test"),
        (40, 42, 1, "test"),
    )
    assert {tuple(r) for r in evaluation_clocks(rows, config()).collect()} == {(30, 31, 38), (40, 41, 42)}


def test_a_seeded_sample_of_clocks_is_the_same_in_any_order_of_the_rows(examples, config) -> None:
    from pipelines.examples.candidates import evaluation_clocks

    rows = examples(*[(10 * k, 10 * k + 5, 1, split) for k in range(20) for split in ("validation", "test")])
    settings = config(evaluation={"max_clocks": 3})
    first = {tuple(r) for r in evaluation_clocks(rows, settings).collect()}
    again = {tuple(r) for r in evaluation_clocks(rows.repartition(7), settings).collect()}
    assert first == again and len(first) == 3


def test_an_items_versions_cover_its_existence_once_and_start_without_content(spark, catalogue) -> None:
    from pipelines.examples.candidates import candidates_at, versions_in_effect
    from pipelines.examples.sides import NO_VERSION

    items = catalogue("a 10 - red", "a 50 - blue", "b 5 - green", "b 20 - grey", "never 1 - red")
    exists = spark.createDataFrame([("a", 3), ("b", 30), ("bare", 7)], "item_id string, exists_from long")
    versions = versions_in_effect(items, exists)
    assert intervals(versions) == {
        ("a", 3, 10, NO_VERSION),
        ("a", 10, 50, 10),
        ("a", 50, FOREVER, 50),
        ("b", 30, FOREVER, 20),
        ("bare", 7, FOREVER, NO_VERSION),
    }
    clocks = spark.createDataFrame([(10, 11, 29)], "as_of long, known_by long, last long")
    assert intervals(candidates_at(clocks, versions)) == {("a", 10, 50, 10), ("bare", 7, FOREVER, NO_VERSION)}
    later = spark.createDataFrame([(49, 49, 50)], "as_of long, known_by long, last long")
    assert {r[1] for r in intervals(candidates_at(later, versions)) if r[0] == "a"} == {10, 50}


def test_the_training_period_is_cut_into_stretches_of_which_each_gives_one_clock(examples, config) -> None:
    from pipelines.examples.candidates import training_clocks

    rows = examples(*[(k, k + 2, k % 2, "train") for k in range(40)], (90, 91, 1, "validation"))
    settings = config(catalogue={"rows": 1, "clocks": 4})
    found = sorted(tuple(row) for row in training_clocks(rows, settings).collect())
    assert [known_by - as_of for as_of, known_by in found] == [1] * 4
    assert [as_of // 10 for as_of, _ in found] == [0, 1, 2, 3]
    assert sorted(tuple(row) for row in training_clocks(rows.repartition(7), settings).collect()) == found


def test_the_catalogue_of_a_clock_is_a_sample_of_what_existed_then(spark, config) -> None:
    from pipelines.examples.candidates import catalogue_at

    versions = spark.createDataFrame(
        [(f"i{n}", start, end) for n in range(9) for start, end in ((n, n + 5), (n + 5, FOREVER))],
        "item_id string, in_effect_from long, in_effect_to long",
    )
    clocks = spark.createDataFrame([(5, 6), (20, 21)], "as_of long, known_by long")
    found = catalogue_at(clocks, versions, config(catalogue={"rows": 100, "clocks": 2})).collect()
    assert {(r.item_id, r.in_effect_from) for r in found if r.as_of == 5} == {
        ("i0", 5), ("i1", 6), ("i2", 2), ("i3", 3), ("i4", 4), ("i5", 5), ("i6", 6)
    }  # fmt: skip
    assert sum(r.as_of == 20 for r in found) == 9
    few = catalogue_at(clocks, versions.repartition(7), config(catalogue={"rows": 7, "clocks": 2})).collect()
    assert [sum(r.as_of == clock for r in few) for clock in (5, 20)] == [4, 4] and {*few} < {*found}


def test_past_positives_are_those_known_at_the_clock(spark, log, config) -> None:
    from pipelines.examples.candidates import attach_past_positives

    events = log(
        "u a 1 click", "v a 9 click 11", "u a 8 click 12", "u a 10 click 10", "u a 3 impression", "u b 3 click"
    )
    rows = spark.createDataFrame(
        [(10, 11, "a"), (10, 11, "b"), (10, 11, "c")], "as_of long, known_by long, item_id string"
    )
    found = attach_past_positives(rows, events, config()).collect()
    assert {r.item_id: r.past_positives for r in found} == {"a": 2, "b": 1, "c": 0}
