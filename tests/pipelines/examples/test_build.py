import random

import pytest

from schemas.fitted import Cuts, Fitted

CUTS = Cuts(validation_start=100, test_start=150, end=200)
FITTED = Fitted(cuts=CUTS, priors={"click_rate": 0.5})


@pytest.fixture
def tables(log, catalogue):
    from pipelines.examples.tables import Tables

    def make(events, partitions=None):
        items = catalogue("i 0 - red", "i 60 - blue", "j 40 40 red", "k 145 145 red")
        users = catalogue("u 0 - fr", "u 90 - be", side="user")
        return Tables(log(*events, partitions=partitions), items, users)

    return make


@pytest.fixture
def build(building):
    """As the jobs build."""
    with building() as build:
        yield build


def history(seed=1, n=120):
    """A random log over 200 µs with late arrivals and ties."""
    rng = random.Random(seed)
    lines = set()
    for _ in range(n):
        user, item, time = rng.choice("uvw"), rng.choice("ijkl"), rng.randrange(5, 200)
        lines.add(f"{user} {item} {time} impression {time + rng.choice([0, 0, 0, 30])}")
        if rng.random() < 0.5:
            lines.add(f"{user} {item} {time + 1} click {time + 1 + rng.choice([0, 1, 25])}")
    unique = {}
    for line in sorted(lines):
        unique.setdefault(tuple(line.split()[:4]), line)
    return sorted(unique.values())


def contents(built):
    """Every row of every table, as text, sorted."""
    return {
        name: sorted(str(tuple(row)) for row in getattr(built, name).collect())
        for name in ("examples", "candidates", "exists", "counts")
    }


def test_one_example_has_the_statistics_of_its_snapshot_and_the_content_of_its_moment(build, tables, config) -> None:
    built = build(
        tables(
            [
                "u i 50 impression", "u i 51 click",  # known, while i was red
                "v j 61 impression", "v j 62 click 72",  # the click arrives after the snapshot's cut at 71
                "u i 75 impression", "u i 85 click 87",  # after the boundary of 70
                "v j 160 impression", "v j 161 click",
                "u i 96 impression",  # closes at 108, after validation starts: dropped
            ]
        ),
        config(catalogue={"rows": 9, "clocks": 1}), FITTED,
    )  # fmt: skip
    rows = {(r.user_id, r.event_time): r for r in built.examples.collect()}
    assert sorted(rows) == [("u", 50), ("u", 75), ("v", 61), ("v", 160)]
    first = rows["u", 50]
    assert (first.as_of, first.known_by, first.item_colour, first.user_colour) == (40, 41, "red", "fr")
    assert first.item_click_count_lifetime is None and first.user_recent_colour is None
    row = rows["u", 75]
    assert (row.label, row.label_time, row.split, row.as_of, row.known_by) == (1, 87, "train", 70, 71)
    assert (row.item_colour, row.user_colour) == ("blue", "fr")
    assert (row.user_click_count_lifetime, row.item_click_count_20us) == (1, 1)
    assert row.item_click_rate_lifetime == (1 + 10 * 0.5) / (1 + 10)
    assert row.item_colour_click_count_lifetime is None  # nothing happened to blue items yet
    assert (row.user_recent_colour, row.user_recent_item_id) == (["red"], ["i"])
    assert (row.max_event_time, row.max_available_time) == (51, 51)
    last = rows["v", 160]
    assert (last.split, last.user_colour, last.cold_user, last.cold_item) == ("test", None, False, False)
    assert {(r.split, r.label, r.mature): r.n for r in built.counts.collect()} == {
        ("train", 1, True): 3,
        ("train", 0, False): 1,
        ("test", 1, True): 1,
    }
    candidates = {r.item_id: r for r in built.candidates.collect()}
    assert sorted(candidates) == ["i", "j", "k"]
    assert (candidates["i"].as_of, candidates["i"].in_effect_from, candidates["i"].item_colour) == (150, 60, "blue")
    assert (candidates["i"].past_positives, candidates["j"].past_positives) == (2, 1)
    assert (candidates["j"].item_click_count_20us, candidates["k"].item_click_count_20us) == (0, None)
    assert (candidates["i"].cold_item, candidates["k"].cold_item) == (False, True)
    drawn = {r.item_id: r for r in built.catalogue.collect()}
    (clock,) = {(r.as_of, r.known_by) for r in drawn.values()}
    assert clock in {(40, 41), (50, 51), (70, 71)} and sorted(drawn) == ["i", "j"]  # k comes at 145
    assert drawn["i"].item_colour == ("blue" if clock[1] >= 60 else "red")
    assert drawn["i"].past_positives == (1 if clock[0] > 51 else 0)


def test_the_order_and_partitions_of_the_log_change_nothing(build, tables, config) -> None:
    settings, events = config(labels={"rule": "sampled"}), history()
    fitted = FITTED.model_copy(update={"keep_share": 0.6})
    found = []
    for partitions in (1, 2, 7):
        random.Random(partitions).shuffle(events)
        found.append(contents(build(tables(events, partitions), settings, fitted)))
    assert found[0] == found[1] == found[2]
    assert 20 < len(found[0]["examples"]) < 400 and len(found[0]["candidates"]) > 20


def test_what_arrives_after_a_cut_changes_no_example_before_it(build, tables, config) -> None:
    cut, settings, events = 130, config(), history()
    past = [line for line in events if int(line.split()[4]) <= cut]
    assert len(past) < 0.8 * len(events)
    found = []
    for lines in (events, past):
        built = build(tables(lines), settings, FITTED)
        closed = built.examples.where(f"event_time <= {cut} and label_time <= {cut}")
        found.append((sorted(map(str, closed.collect())), built.exists.where(f"exists_from <= {cut}").count()))
    assert found[0] == found[1] and len(found[0][0]) > 20


def test_a_day_has_the_examples_of_the_whole_log_whose_labels_had_closed_by_then(build, tables, config) -> None:
    as_of, settings, events = 170, config(), history()
    seen = [line for line in events if int(line.split()[2]) < as_of and int(line.split()[4]) <= as_of + 1]
    assert len(seen) < 0.95 * len(events)
    whole = build(tables(events), settings, FITTED).examples.where(f"label_time < {as_of}")
    cuts = CUTS.model_copy(update={"as_of": as_of})
    day = build(tables(seen), settings, FITTED.model_copy(update={"cuts": cuts})).examples
    expected, found = (sorted(map(str, frame.collect())) for frame in (whole, day))
    assert found == expected
    assert sum("split='test'" in row for row in found) > 2


def test_a_window_longer_than_the_log_holds_all_of_it(build, tables, config) -> None:
    settings = config(preferences={"windows": ["400us", "lifetime"]})  # the log covers 200
    rows = build(tables(history()), settings, FITTED).examples.collect()
    assert len(rows) > 20
    for name in ("user_click_count", "item_click_count", "item_colour_click_count", "item_click_rate"):
        assert [row[f"{name}_400us"] for row in rows] == [row[f"{name}_lifetime"] for row in rows]
    assert any(row["item_click_count_lifetime"] for row in rows)


def test_users_with_a_single_event_have_examples_without_a_history(build, tables, config) -> None:
    events = [f"u{n} i {n * 6} impression" for n in range(1, 31)] + ["u5 i 31 click"]
    rows = build(tables(events), config(), FITTED).examples.collect()
    assert len(rows) > 20 and {row.split for row in rows} == {"train", "validation", "test"}
    assert {row.user_id: row.label for row in rows}["u5"] == 1
    assert all(row.user_click_count_lifetime is None and row.user_recent_item_id is None for row in rows)
    assert all(row.cold_user == (row.split != "train") for row in rows)
    assert rows[-1].item_click_count_lifetime is None or max(row.item_click_count_lifetime or 0 for row in rows) == 1
