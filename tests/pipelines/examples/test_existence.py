from pipelines.examples.existence import exists_from
from schemas.columns import TIME_MIN_US


def existence(items, interactions):
    return {row.item_id: row.exists_from for row in exists_from(items, interactions).collect()}


def test_an_item_exists_from_the_earlier_of_its_listing_and_its_first_availability(log, catalogue) -> None:
    always = TIME_MIN_US
    items = catalogue(
        "created 50 40 red",
        "created 60 40 blue",
        "dated 50 - red",
        f"undated_then_dated {always} - red",
        "undated_then_dated 30 - red",
        "used_before_created 50 40 red",
        "dated_before_created 50 - red",
        "dated_before_created 190 190 red",
        f"undated_but_used {always} - red",
        f"undated_and_unused {always} - red",
    )
    events = log("u used_before_created 10 click 20", "u undated_but_used 5 click 7", "u unlisted 1 click 9")
    assert existence(items, events) == {
        "created": 40,
        "dated": 50,
        "undated_then_dated": 30,
        "used_before_created": 20,
        "dated_before_created": 50,
        "undated_but_used": 7,
        "unlisted": 9,
    }


def test_versions_valid_after_a_cut_move_no_existence_at_or_before_it(log, catalogue) -> None:
    past, cut = ["a 50 - red", "b 60 40 red"], 70
    before, after = (existence(catalogue(*rows), log()) for rows in (past, [*past, "a 80 75 red", "b 90 85 red"]))
    assert {i: t for i, t in after.items() if t <= cut} == before


def test_events_that_arrive_after_a_cut_move_no_existence_at_or_before_it(log, catalogue) -> None:
    items = catalogue("a 50 40 red", f"b {TIME_MIN_US} - red", "c 80 - red")
    past = ["u a 45 click 46", "u b 30 click 60"]
    future = ["u a 41 click 71", "u b 20 click 72", "u c 70 click 75", "u d 10 click 99"]
    before, after = existence(items, log(*past)), existence(items, log(*past, *future))
    cut = 70
    assert {i: t for i, t in after.items() if t <= cut} == {i: t for i, t in before.items() if t <= cut}
