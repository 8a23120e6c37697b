from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from pipelines.examples.labels import labelled_events
from pipelines.examples.negatives import draw, with_negatives

KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(keys=KEYS, data=st.data(), count=st.integers(0, 6))
def test_draws_are_distinct_existing_and_never_the_positive(keys, data, count) -> None:
    n = len(keys)
    sizes = np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)))
    own = np.array(data.draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)))
    drawn = draw(np.array(keys, np.uint64), sizes, own, count)
    for places, size, mine in zip(drawn, sizes, own, strict=True):
        got = [p for p in places if p >= 0]
        assert len(set(got)) == len(got) == min(count, size - (mine < size))
        assert all(0 <= p < size and p != mine for p in got)


def test_every_other_place_is_drawn_equally_often() -> None:
    n = 40_000
    drawn = draw(np.arange(n, dtype=np.uint64), np.full(n, 5), np.full(n, 2), 2)
    for column in drawn.T:
        shares = np.bincount(column, minlength=5) / n
        assert shares[2] == 0
        assert np.abs(shares[[0, 1, 3, 4]] - 0.25).max() < 0.01
    pairs = Counter(map(tuple, drawn.tolist()))
    # 31.3 is exceeded by chance once in a thousand (chi squared, 11 degrees of freedom).
    assert len(pairs) == 12 and sum((count - n / 12) ** 2 / (n / 12) for count in pairs.values()) < 31.3


def positives(log, config, *lines):
    return labelled_events(log(*lines), config(labels={"rule": "sampled"}))


def test_negatives_follow_their_positive_with_ids_of_their_own(spark, log, config) -> None:
    exists = spark.createDataFrame([("a", 1), ("b", 2), ("c", 3), ("d", 99)], "item_id string, exists_from long")
    rows = with_negatives(positives(log, config, "u b 5 click 6"), exists, 3, seed=1).collect()
    assert sorted((r.item_id, r.label) for r in rows) == [("a", 0), ("b", 1), ("c", 0)]
    assert sorted(r.negative_index for r in rows) == [0, 1, 2]
    assert len({r.example_id for r in rows}) == 3
    assert {(r.user_id, r.event_time, r.label_time) for r in rows} == {("u", 5, 6)}


def test_an_item_that_comes_later_changes_no_draw_before_it(spark, log, config) -> None:
    early = positives(log, config, *[f"u i{k % 7} {10 + k} click" for k in range(40)])
    old = [(f"i{k}", k) for k in range(7)]
    exists = spark.createDataFrame(old, "item_id string, exists_from long")
    more = spark.createDataFrame([("a0", 30), *old, ("a1", 31)], "item_id string, exists_from long")
    before = {tuple(r) for r in with_negatives(early, exists, 3, seed=1).where("event_time < 30").collect()}
    after = {tuple(r) for r in with_negatives(early, more, 3, seed=1).where("event_time < 30").collect()}
    assert before == after and len(before) == 20 * 4


def test_draws_are_the_same_for_any_partitions_and_differ_by_seed(spark, log, config) -> None:
    exists = spark.createDataFrame([(f"i{k}", 0) for k in range(9)], "item_id string, exists_from long")
    rows = positives(log, config, *[f"u i{k % 9} {10 + k} click" for k in range(30)])
    found = [
        {tuple(r) for r in with_negatives(frame, exists.repartition(2), 2, seed).collect()}
        for frame, seed in ((rows, 1), (rows.repartition(7), 1), (rows.orderBy(F.rand(3)), 2))
    ]
    assert found[0] == found[1] != found[2]
