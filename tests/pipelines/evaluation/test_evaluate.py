"""A small planted world: tastes known, items arriving, one clock a day."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import EvaluationOptions
from pipelines.errors import CorruptDatasetError
from pipelines.evaluation.evaluate import measure_split
from pipelines.evaluation.inputs import Measurable, clock_delay
from pipelines.evaluation.rankers import Planted, Popularity, Random
from pipelines.evaluation.ranking import Catalogue, rank_split, sample_clocks
from pipelines.evaluation.slices import COLD_SLICES
from pipelines.evaluation.timeline import History

FOREVER = 2**63 - 1
DAY = 100


def examples(rows) -> pa.Table:
    """Rows of (user, item, t, label, cold_user, cold_item); the clock is the day that t falls in."""
    user, item, t, label, cold_user, cold_item = zip(*rows, strict=True)
    clock = [x // DAY * DAY for x in t]
    table = pa.table(
        {
            "example_id": [f"{u}-{i}-{x}" for u, i, x in zip(user, item, t, strict=True)],
            "user_id": user,
            "item_id": item,
            "event_time": pa.array(t, pa.int64()),
            "as_of": pa.array(clock, pa.int64()),
            "known_by": pa.array([c + 5 for c in clock], pa.int64()),
            "label": pa.array(label, pa.float32()),
            "cold_user": cold_user,
            "cold_item": cold_item,
        }
    )
    return table.sort_by([("event_time", "ascending"), ("example_id", "ascending")])


def candidates(clocks, items) -> Catalogue:
    """Items of (id, in_effect_from, in_effect_to, past positives), the same at every clock."""
    ids, since, until, past = zip(*items, strict=True)
    table = pa.table(
        {
            "item_id": ids,
            "in_effect_from": pa.array(since, pa.int64()),
            "in_effect_to": pa.array(until, pa.int64()),
            "past_positives": pa.array(past, pa.int64()),
        }
    )
    return Catalogue(np.array(clocks), lambda clock: table)


def history(events, split, items) -> History:
    user, item, t = zip(*events, strict=True) if events else ((), (), ())
    positives = pa.table(
        {
            "user_id": pa.array(user, pa.string()),
            "item_id": pa.array(item, pa.string()),
            "event_time": pa.array(t, pa.int64()),
            "available_time": pa.array(t, pa.int64()),
        }
    )
    users = pa.array(sorted(set(split["user_id"].to_pylist()) | set(user)))
    return History.of(positives, users, pa.array(sorted(set(items) | set(item))), 5)


def places(split, catalogue, events=(), *, filter_seen=True, max_clocks=10) -> tuple[list[int], dict[str, int]]:
    """Places by popularity, in order of the ranked examples, and the counts."""
    ids = {i for c in catalogue.clocks for i in catalogue.at(int(c))["item_id"].to_pylist()}
    ranker = Popularity()
    ranked = rank_split(
        split,
        {"popularity": ranker.users(split)},
        {"popularity": ranker},
        catalogue,
        history(list(events), split, ids | set(split["item_id"].to_pylist())),
        max_clocks=max_clocks,
        filter_seen=filter_seen,
        seed=1,
    )
    return ranked.places["popularity"].tolist(), ranked.counts


def test_a_candidate_that_came_later_than_the_example_is_never_ranked() -> None:
    split = examples([("u", "old", 150, 1, False, False), ("v", "old", 180, 1, False, False)])
    catalogue = candidates([100], [("old", 0, FOREVER, 1), ("hit", 170, FOREVER, 99)])
    # At 150 there is nothing but `old`; from 170 on `hit` stands above it.
    assert places(split, catalogue)[0] == [1, 2]


def test_each_example_meets_the_version_in_effect_at_its_time() -> None:
    split = examples([("u", "a", 150, 1, False, False), ("v", "a", 180, 1, False, False)])
    versions = [("a", 0, 160, 1), ("a", 160, FOREVER, 9), ("b", 0, FOREVER, 5)]
    assert places(split, candidates([100], versions))[0] == [2, 1]


def test_a_version_that_was_replaced_competes_no_more() -> None:
    split = examples([("u", "a", 150, 1, False, False), ("v", "a", 180, 1, False, False)])
    versions = [("a", 0, FOREVER, 5), ("b", 0, 160, 9), ("b", 160, FOREVER, 1)]
    assert places(split, candidates([100], versions))[0] == [2, 1]


def test_what_the_user_is_known_to_like_already_does_not_compete() -> None:
    split = examples([("u", "a", 150, 1, False, False), ("v", "a", 150, 1, False, False)])
    catalogue = candidates([100], [("a", 0, FOREVER, 1), ("b", 0, FOREVER, 9)])
    events = [("u", "b", 50), ("v", "b", 120)]  # the clock of 100 knows the first alone
    assert places(split, catalogue, events)[0] == [1, 2]
    assert places(split, catalogue, events, filter_seen=False)[0] == [2, 2]


def test_a_repeated_like_is_left_out_and_counted() -> None:
    split = examples([("u", "a", 150, 1, False, False), ("u", "b", 150, 1, False, False)])
    catalogue = candidates([100], [("a", 0, FOREVER, 1), ("b", 0, FOREVER, 9)])
    found, counts = places(split, catalogue, [("u", "b", 50)])
    assert found == [1]
    assert counts == {"clocks": 1, "ranked": 1, "already_seen": 1, "not_in_catalogue": 0, "other_clocks": 0}


def test_an_item_that_did_not_exist_yet_is_a_miss() -> None:
    split = examples([("u", "new", 150, 1, False, True)])
    found, counts = places(split, candidates([100], [("new", 151, FOREVER, 0), ("a", 0, FOREVER, 0)]))
    assert found[0] > 10**9
    assert counts["not_in_catalogue"] == 1


def test_two_likes_of_one_item_at_one_clock_are_one() -> None:
    split = examples(
        [("u", "a", 150, 1, False, False), ("u", "a", 160, 1, False, False), ("u", "a", 250, 1, False, False)]
    )
    assert places(split, candidates([100, 200], [("a", 0, FOREVER, 0)]))[0] == [1, 1]


def test_clocks_beyond_the_limit_are_sampled_by_seed_whatever_their_order() -> None:
    clocks = np.arange(50) * DAY
    chosen = sample_clocks(clocks, 7, seed=3)
    assert len(chosen) == 7
    assert chosen.tolist() == sample_clocks(clocks[::-1].copy(), 7, seed=3).tolist()
    assert chosen.tolist() != sample_clocks(clocks, 7, seed=4).tolist()


@pytest.fixture(scope="module")
def world():
    """60 users and 80 items with planted tastes; half of the items arrive during the ten days."""
    generator = np.random.default_rng(4)
    tastes, qualities = generator.normal(size=(60, 4)), generator.normal(size=(80, 4))
    born = np.where(np.arange(80) < 40, 0, generator.integers(0, 900, 80))
    past = generator.integers(0, 30, 80)
    rows = []
    for t in range(5, 1000, 2):
        user = int(generator.integers(60))
        for item in generator.choice(np.flatnonzero(born <= t), 4, replace=False):
            score = tastes[user] @ qualities[item]
            rows.append((f"u{user}", f"i{item}", t, int(score > 1.5), user % 7 == 0, bool(born[item] > 0)))
    split = examples(rows)
    ids = [f"i{n}" for n in range(80)]
    catalogue = candidates(
        range(0, 1000, DAY), [(i, int(b), FOREVER, int(p)) for i, b, p in zip(ids, born, past, strict=True)]
    )
    exists = pa.table({"item_id": ids, "exists_from": pa.array(born, pa.int64())})
    users = pa.table({"id": [f"u{n}" for n in range(60)], "vector": tastes.tolist()})
    items = pa.table({"id": ids, "vector": qualities.tolist()})
    rankers = {"model": Planted(users, items), "popularity": Popularity(), "random": Random()}
    return Measurable({"test": split}, exists, catalogue, history([("u1", "i3", 5)], split, ids)), rankers


OPTIONS = EvaluationOptions(ks=(5, 10), bootstrap=30, age_slices=True)


def test_nothing_beats_the_planted_truth(world) -> None:
    data, rankers = world
    result = measure_split(data, "test", rankers, OPTIONS, 1)
    for name in ("popularity", "random"):
        for part in COLD_SLICES:
            for metric in ("recall@5", "recall@10", "ndcg@10", "auc"):
                assert result.measured["model"][part][metric]["value"] > result.measured[name][part][metric]["value"]
        assert result.differences[name]["all"]["ndcg@10"]["low"] > 0
    assert result.measured["random"]["all"]["auc"]["value"] == 0.5
    assert result.measured["model"]["all"]["auc"]["value"] > 0.99


def test_random_recall_is_k_over_the_number_of_candidates(world) -> None:
    data, rankers = world
    value = measure_split(data, "test", rankers, OPTIONS, 2).measured["random"]["all"]["recall@10"]
    # Between 40 and 80 items compete.
    assert 10 / 80 * 0.8 < value["value"] < 10 / 40 * 1.2


def test_the_result_does_not_depend_on_the_order_of_rows(world) -> None:
    data, rankers = world
    shuffle = np.random.default_rng(1).permutation
    turned = Catalogue(data.catalogue.clocks, lambda clock: data.catalogue.at(clock).take(shuffle(80)))
    split = data.splits["test"].take(shuffle(data.splits["test"].num_rows))
    split = split.sort_by([("event_time", "ascending"), ("example_id", "ascending")])
    again = replace(data, splits={"test": split}, catalogue=turned)
    assert measure_split(again, "test", rankers, OPTIONS, 1) == measure_split(data, "test", rankers, OPTIONS, 1)


def test_a_model_compared_with_itself_differs_by_nothing_and_one_beside_it_changes_no_place(world) -> None:
    data, rankers = world
    both = measure_split(data, "test", {"against": rankers["model"], **rankers}, OPTIONS, 1)
    same = both.differences["against"]["all"]
    assert {(e["value"], e["low"], e["high"]) for m, e in same.items() if m != "calibration_error"} == {(0.0, 0.0, 0.0)}
    assert both.measured["model"] == measure_split(data, "test", rankers, OPTIONS, 1).measured["model"]
    by_auc = both.differences["popularity"]["all"]["auc"]
    assert 0 < by_auc["low"] < by_auc["value"] < by_auc["high"]


def test_an_empty_split_measures_nothing_and_says_so(world) -> None:
    data, rankers = world
    empty = replace(data, splits={"test": data.splits["test"].slice(0, 0)})
    result = measure_split(empty, "test", rankers, OPTIONS, 1)
    assert result.measured["model"]["all"]["recall@10"] == {"value": None, "low": None, "high": None, "n": 0}
    assert result.counts["clocks"] == result.counts["ranked"] == 0


def test_examples_must_agree_on_the_delay_of_their_clocks() -> None:
    assert clock_delay(pa.table({"as_of": [1, 2], "known_by": [4, 5]})) == 3
    with pytest.raises(CorruptDatasetError, match="one delay"):
        clock_delay(pa.table({"as_of": [1, 2], "known_by": [4, 6]}))
