"""Ids, classes, splits and the order of images follow from their names and the seed alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import ConfigError, ImageOptions
from pipelines.errors import QualityGateError, SourceError
from pipelines.images.listing import LISTING
from pipelines.images.plan import check_share, cut_splits, distinct, example_id, plan_records, plan_vectors


def listing(*rows: dict) -> pa.Table:
    filled = [
        {"source": "images.sources[0]", "file": row.get("name"), "offset": -1, "label": "cat", **row} for row in rows
    ]
    return pa.Table.from_pylist(filled, schema=LISTING)


def named(count: int, **same) -> list[dict]:
    return [{"name": f"p/{n}.jpg", "label": f"c{n % 3}", **same} for n in range(count)]


def test_an_id_is_a_function_of_the_name_alone() -> None:
    assert len({example_id(f"p/{n}.jpg") for n in range(1000)}) == 1000
    # Published ids may not change: records of two releases would no longer be those of the same images.
    assert example_id("p/1.jpg") == "d2bd4559be9344c89b5aebfbf3d0bad8"


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_the_listing(random) -> None:
    rows = named(40)
    shuffled = rows.copy()
    random.shuffle(shuffled)
    options = ImageOptions(sources=[{"path": "p"}], height=2, width=2)
    plans = [plan_records(listing(*some), options, 7, 3).rows for some in (rows, shuffled)]
    assert plans[0].equals(plans[1])


def test_rows_lie_by_shard_then_key_and_every_split_has_its_own_shards(options) -> None:
    plan = plan_records(listing(*named(300)), options(), 7, 4)
    shards = plan.rows["shard"].to_numpy()
    assert np.all(np.diff(shards) >= 0)
    place = {"train": 0, "validation": 1, "test": 2}
    assert [place[split] for split in plan.rows["split"].to_pylist()] == (shards // 4).tolist()
    names = plan.rows["name"].to_pylist()
    assert names != sorted(names)


def test_another_seed_is_another_order_and_another_cut(options) -> None:
    one, two = (plan_records(listing(*named(200)), options(), seed, 1).rows for seed in (1, 2))
    assert one["name"].to_pylist() != two["name"].to_pylist()
    splits = [dict(zip(p["name"].to_pylist(), p["split"].to_pylist(), strict=True)) for p in (one, two)]
    assert splits[0] != splits[1]


def test_shares_are_cut_where_no_split_is_given(options) -> None:
    ids = [example_id(str(n)) for n in range(5000)]
    splits = cut_splits(ids, [None] * 5000, options(validation_share=0.2, test_share=0.3), 7)
    assert abs(splits.count("validation") / 5000 - 0.2) < 0.02
    assert abs(splits.count("test") / 5000 - 0.3) < 0.02


TIMES = st.none() | st.integers(0, 9)
SPLIT = st.sampled_from([None, "train", "validation", "test"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TIMES, SPLIT, st.sampled_from("abc")), min_size=1))
def test_no_image_of_a_later_time_is_learned_from_whatever_its_source_says(said) -> None:
    rows = [
        {"name": f"p/{n}.jpg", "valid_from": time, "split": split, "label": label}
        for n, (time, split, label) in enumerate(said)
    ]
    options = ImageOptions(sources=[{"path": "p"}], height=2, width=2, validation_share=0.5)
    plan = plan_records(listing(*rows), options, 7, 2, 5)
    late = {row["name"] for row in rows if row["valid_from"] is not None and row["valid_from"] >= 5}
    assert all(row["split"] == "test" for row in plan.rows.to_pylist() if row["name"] in late)
    told = {row["name"] for row in rows if row["split"] == "test"}
    assert {row["name"] for row in plan.rows.to_pylist() if row["split"] == "test"} <= late | told
    # A class that comes up no earlier is none, and its images are counted.
    assert set(plan.classes) == {row["label"] for row in rows if row["name"] not in late}
    assert plan.rows.num_rows + plan.later_classes == len(rows)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(SPLIT, st.sampled_from("abc"))))
def test_the_cut_leaves_each_class_an_image_to_train_on(said) -> None:
    rows = [{"name": f"p/{n}.jpg", "split": split, "label": label} for n, (split, label) in enumerate(said)]
    options = ImageOptions(sources=[{"path": "p"}], height=2, width=2, validation_share=0.5, test_share=0.4)
    splits = [(row["label"], row["split"]) for row in plan_records(listing(*rows), options, 7, 2).rows.to_pylist()]
    for label in {row["label"] for row in rows if row["split"] in (None, "train")}:
        assert (label, "train") in splits


def test_given_splits_stay_and_validation_is_cut_from_train(options) -> None:
    ids = [example_id(str(n)) for n in range(2000)]
    given_splits = ["train", "test"] * 1000
    splits = cut_splits(ids, given_splits, options(validation_share=0.5), 7)
    assert all(split == "test" for split in splits[1::2])
    assert set(splits[::2]) == {"train", "validation"}
    kept = cut_splits([*ids, "0" * 32], [*given_splits, "validation"], options(validation_share=0.5), 7)
    assert kept == [*given_splits, "validation"]


def test_classes_are_sorted_numbers_as_numbers_and_a_given_order_is_kept(options) -> None:
    rows = [{"name": str(n), "label": label} for n, label in enumerate(["10", "9", "2"])]
    assert plan_records(listing(*rows), options(), 7, 1).classes == ("2", "9", "10")
    chosen = plan_records(listing(*rows), options(classes=["9", "2"]), 7, 1)
    assert chosen.classes == ("9", "2")
    assert [row["reason"] for row in chosen.bad] == ["label: not among images.classes"]
    with pytest.raises(SourceError, match=r"'bird' of images\.classes has none"):
        plan_records(listing(*rows), options(classes=["9", "bird"]), 7, 1)


def test_an_image_listed_twice_is_a_duplicate_and_one_listed_otherwise_is_set_aside(options) -> None:
    rows = [{"name": "a"}, {"name": "b"}, {"name": "a"}, {"name": "b", "label": "dog"}, {"name": "c", "problem": "no"}]
    plan = plan_records(listing(*rows), options(), 7, 1)
    assert (plan.rows["name"].to_pylist(), plan.duplicates) == (["a"], 1)
    # Neither of the two rows of `b` is believed: which comes first says nothing.
    otherwise = "label: another row of the same name says otherwise"
    assert [row["reason"] for row in plan.bad] == ["no", otherwise, otherwise]


@given(st.permutations(range(6)))
def test_rows_that_repeat_or_contradict_each_other_are_told_apart_in_any_order(order) -> None:
    rows = [
        {"name": "a", "file": "y", "item_id": "i", "source": "images.sources[1]"},
        {"name": "a", "file": "x", "item_id": "i"},
        {"name": "a", "file": "z", "item_id": "i"},
        {"name": "b", "item_id": "j"},
        {"name": "c", "item_id": "j"},
        {"name": "d", "item_id": "k"},
    ]
    found = listing(*(rows[place] for place in order))
    kept, bad, duplicates = distinct(found, ("item_id",), ("name",))
    assert sorted(kept["file"].to_pylist()) == ["d", "x"]
    assert (sorted(row["file"] for row in bad), duplicates) == (["b", "c"], 2)


@pytest.mark.parametrize("date", ["1899-12-31", "2100-01-02", "soon"])
def test_the_encoders_date_must_be_one_that_can_be(options, date) -> None:
    with pytest.raises(ConfigError, match=r"images\.embed\.valid_from must be"):
        plan_vectors(listing(*named(2)), options(embed={"valid_from": date}))


def test_records_need_labels(options) -> None:
    chosen = options(sources=[{"path": "l.csv", "format": "table", "image": "file"}])
    with pytest.raises(ConfigError, match=r"images.sources\[0\].label must be set"):
        plan_records(listing(*named(3)), chosen, 7, 1)


def test_the_gate_names_the_commonest_reasons() -> None:
    bad = [{"reason": "r", "file": f"f{n}"} for n in range(3)]
    check_share(100, bad, 0.03)
    with pytest.raises(QualityGateError, match=r"got 3.0% \(3 of 100\): r \(3\); for example f0"):
        check_share(100, bad, 0.02)
    with pytest.raises(QualityGateError):
        check_share(3, bad, 1.0)
