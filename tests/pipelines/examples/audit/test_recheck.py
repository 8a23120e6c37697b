"""Deliberate leaks, one at a time, written into honestly built examples: the plain recomputation names each of them."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.examples.audit.log import Clock, Past
from pipelines.examples.audit.oracle import Oracle
from pipelines.examples.audit.outcomes import Outcomes
from pipelines.examples.audit.recheck import recheck_candidates, recheck_examples, same

DAY = 86_400_000_000
END_OF_TIME = 2**62
Row = dict[str, Any]


class Leak:
    """What a careless pipeline would have published of a row: its features under another rule."""

    def __init__(self, past: Past, world) -> None:
        self.past = past
        self.oracle = Oracle(past, world.config, world.fitted)
        self.outcomes = Outcomes(past, world.config, world.fitted)

    def features(self, row: Row, as_of: int = 0, known_by: int = 0, time: int = 0) -> Row:
        """All features with the clock and the content's time moved by so much."""
        clock, t = Clock(row["as_of"] + as_of, row["known_by"] + known_by), row["event_time"] + time
        return self.oracle.user_features(row["user_id"], t, clock) | self.oracle.item_features(row["item_id"], t, clock)


@pytest.fixture(scope="session")
def evidence(world) -> tuple[list[Row], list[Row], Leak]:
    """All examples, a sample of candidates, and the definitions over the log they rest on."""
    from pipelines.examples.audit.evidence import gather, sample_candidates, sample_examples

    examples = sample_examples(world.built.examples, 600, seed=1)
    candidates = sample_candidates(world.built.candidates, 60, seed=1)
    return examples, candidates, Leak(gather([*examples, *candidates], world.tables, world.config), world)


def closed_right_edge(row: Row, leak: Leak) -> Row:
    return leak.features(row, as_of=1)


def availability_ignored(row: Row, leak: Leak) -> Row:
    return leak.features(row, known_by=END_OF_TIME)


def own_event_counted(row: Row, leak: Leak) -> Row:
    return leak.features(row, as_of=row["event_time"] + 1 - row["as_of"], known_by=END_OF_TIME)


def statistics_of_the_whole_log(row: Row, leak: Leak) -> Row:
    return {name: v for name, v in leak.features(row, END_OF_TIME, END_OF_TIME).items() if "lifetime" in name}


def snapshot_served_too_early(row: Row, leak: Leak) -> Row:
    return {
        **leak.features(row, as_of=DAY, known_by=DAY),
        "as_of": row["as_of"] + DAY,
        "known_by": row["known_by"] + DAY,
    }


def content_one_version_too_new(row: Row, leak: Leak) -> Row:
    later = [v["valid_from"] for v in leak.past.items.all(row["item_id"]) if v["valid_from"] > row["event_time"]]
    return leak.features(row, time=min(later, default=row["event_time"]) - row["event_time"])


def window_open_on_the_left(row: Row, leak: Leak) -> Row:
    names = ("user_click_count_1d", "user_size_sum_1d", "item_size_sum_1d")
    moved = leak.features(row, as_of=1, known_by=END_OF_TIME)
    return {name: moved[name] for name in names}


def zero_for_no_history(row: Row, leak: Leak) -> Row:
    return {name: 0.0 for name in row if "_count_" in name and row[name] is None}


def bag_in_another_order(row: Row, leak: Leak) -> Row:
    return {"user_recent_item_id": row["user_recent_item_id"] and row["user_recent_item_id"][::-1]}


def categories_of_today(row: Row, leak: Leak) -> Row:
    found = leak.features(row, time=END_OF_TIME - row["event_time"])
    return {name: value for name, value in found.items() if name.startswith("item_tags")}


def cold_by_the_whole_log(row: Row, leak: Leak) -> Row:
    return {"cold_item": row["item_id"] not in leak.past.rows_of_item, "cold_user": False}


def label_of_a_click_that_came_too_late(row: Row, leak: Leak) -> Row:
    log = leak.past.user_log
    clicks = (
        r
        for r in leak.past.rows_of_user[row["user_id"]].tolist()
        if log.item[r] == row["item_id"] and log.action[r] == "click"
    )
    return {"label": float(any(row["event_time"] <= log.time[r] <= row["event_time"] + DAY for r in clicks))}


def label_closed_too_early(row: Row, leak: Leak) -> Row:
    return {"label_time": row["event_time"]}


def split_by_something_else(row: Row, leak: Leak) -> Row:
    return {"split": "train"}


def example_of_no_event(row: Row, leak: Leak) -> Row:
    return {"event_time": row["event_time"] + 1}


def provenance_that_flatters(row: Row, leak: Leak) -> Row:
    return {"max_event_time": 0}


LEAKS = {
    closed_right_edge: ("user features", "item features"),
    availability_ignored: ("user features", "item features"),
    own_event_counted: ("user features", "item features"),
    statistics_of_the_whole_log: ("user features", "item features"),
    snapshot_served_too_early: ("clock", "user features", "item features"),
    content_one_version_too_new: ("item features",),
    window_open_on_the_left: ("user features",),
    zero_for_no_history: ("user features", "item features"),
    bag_in_another_order: ("user features",),
    categories_of_today: ("item features",),
    cold_by_the_whole_log: ("cold flags",),
    label_of_a_click_that_came_too_late: ("label",),
    label_closed_too_early: ("label",),
    split_by_something_else: ("split",),
    example_of_no_event: ("label",),
    provenance_that_flatters: ("provenance",),
}


def test_honest_examples_pass(evidence) -> None:
    examples, candidates, honest = evidence
    checks = recheck_examples(examples, honest.oracle, honest.outcomes)
    checks += recheck_candidates(candidates, honest.oracle, honest.outcomes)
    assert [(check.name, check.detail) for check in checks if not check.passed] == []


def test_the_tiny_shop_has_every_hard_case(evidence) -> None:
    examples, _, honest = evidence
    assert {row["split"] for row in examples} == {"train", "validation", "test"}
    assert {row["label"] for row in examples} == {0.0, 1.0}
    assert {row["cold_item"] for row in examples} == {row["cold_user"] for row in examples} == {True, False}
    assert (honest.past.user_log.available > honest.past.user_log.time + DAY).any()
    assert any(row["user_recent_item_id"] is None for row in examples)
    assert any(row["item_category"] is None for row in examples)


@pytest.mark.parametrize("leaky", LEAKS, ids=lambda leaky: leaky.__name__)
def test_a_leak_is_caught_and_named(leaky: Callable[[Row, Leak], Row], world, evidence) -> None:
    examples, _, leak = evidence
    published = [{**row, **leaky(row, leak)} for row in examples]
    broken = {c.name: c for c in recheck_examples(published, leak.oracle, leak.outcomes) if not c.passed}
    assert {f"recomputed: {group}" for group in LEAKS[leaky]} <= set(broken)
    first = broken[f"recomputed: {LEAKS[leaky][0]}"]
    assert "example" in first.detail and "published" in first.detail and "should be" in first.detail


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("exists_from", lambda v: v - 1),
        ("past_positives", lambda v: v + 1),
        ("item_click_count_lifetime", lambda v: (v or 0) + 1),
        ("cold_item", lambda v: not v),
        ("in_effect_to", lambda v: v - 1),
    ],
)
def test_a_wrong_candidate_is_caught(column, change, evidence) -> None:
    _, candidates, honest = evidence
    published = [{**row, column: change(row[column])} for row in candidates]
    assert any(not c.passed for c in recheck_candidates(published, honest.oracle, honest.outcomes))


def test_missing_and_zero_are_not_the_same() -> None:
    assert not same(None, 0.0) and not same(0.0, None)
    assert same(float("nan"), float("nan"))
    assert not same([1.0], [1.0, 2.0]) and not same(["a", "b"], ["b", "a"])


def test_a_sample_is_spread_over_the_splits_and_holds_their_ends(world, evidence) -> None:
    from pipelines.examples.audit.evidence import sample_examples

    everything, sample = evidence[0], sample_examples(world.built.examples, 12, seed=2)
    assert len(sample) < len(everything) and sample == sample_examples(world.built.examples.repartition(5), 12, seed=2)
    for split in ("train", "validation", "test"):
        times = [row["event_time"] for row in everything if row["split"] == split]
        mine = [row["event_time"] for row in sample if row["split"] == split]
        assert 4 <= len(mine) <= 6 and min(mine) == min(times) and max(mine) == max(times)
