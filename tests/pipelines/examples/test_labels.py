import hashlib

import pytest

from pipelines.errors import ConfigError
from pipelines.examples.labels import labelled_events, positive_condition


def labels(frame):
    return {(r.user_id, r.item_id, r.event_time): (r.label, r.label_time) for r in frame.collect()}


def test_a_click_at_either_edge_of_the_window_counts_and_one_outside_does_not(log, config) -> None:
    # window 10, arrival bound 2: the label of an impression at 100 closes at 112
    events = log(
        "u same 100 impression", "u same 100 click",
        "u last 100 impression", "u last 110 click 112",
        "u after 100 impression", "u after 111 click 111",
        "u before 100 impression", "u before 99 click",
        "u other 100 impression", "v other 105 click",
        "u none 100 impression",
    )  # fmt: skip
    found = {item: label for (_, item, _), (label, _) in labels(labelled_events(events, config())).items()}
    assert found == {"same": 1, "last": 1, "after": 0, "before": 0, "other": 0, "none": 0}


def test_a_click_that_arrives_after_the_label_closed_does_not_count(log, config) -> None:
    events = log("u i 100 impression", "u i 105 click 113", "u j 100 impression", "u j 105 click 112")
    assert labels(labelled_events(events, config())) == {("u", "i", 100): (0, 112), ("u", "j", 100): (1, 112)}


def test_a_label_is_not_known_before_its_impression_is(log, config) -> None:
    events = log("u i 100 impression 500", "u i 101 click 500")
    assert labels(labelled_events(events, config())) == {("u", "i", 100): (1, 500)}


def test_a_late_click_does_not_hide_one_in_time(log, config) -> None:
    events = log("u i 100 impression", "u i 101 click 900", "u i 102 click 103")
    assert labels(labelled_events(events, config())) == {("u", "i", 100): (1, 112)}


def test_one_click_answers_every_impression_within_its_window(log, config) -> None:
    events = log("u i 100 impression", "u i 105 impression", "u i 80 impression", "u i 108 click")
    found = labelled_events(events, config())
    assert {t: label for (_, _, t), (label, _) in labels(found).items()} == {80: 0, 100: 1, 105: 1}


def test_a_source_that_logs_availability_waits_for_the_landing_delay(log, config) -> None:
    logged = {"path": "log", "user_id": "u", "item_id": "i", "event_time": {"column": "t"}}
    logged["available_time"] = {"column": "a"}
    settings = config(source={"interactions": [logged]}, preferences={"landing_delay": "2us"})
    assert labels(labelled_events(log("u i 100 impression"), settings)) == {("u", "i", 100): (0, 112)}


def test_by_threshold_a_rating_of_exactly_the_threshold_is_positive(log, config) -> None:
    settings = config(labels={"rule": "threshold", "positive_actions": ["rating"], "threshold": 4})
    events = log("u i 1 rating 3 4.0", "u j 1 rating 3 3.5", "u k 1 view 3 5.0")
    assert labels(labelled_events(events, settings)) == {("u", "i", 1): (1, 3), ("u", "j", 1): (0, 3)}
    assert [r.item_id for r in events.where(positive_condition(settings)).collect()] == ["i"]


def test_by_sampling_every_positive_action_is_a_one_known_when_available(log, config) -> None:
    settings = config(labels={"rule": "sampled", "positive_actions": ["click", "buy"]})
    events = log("u i 1 click 3", "u j 2 buy 2", "u k 3 impression")
    assert labels(labelled_events(events, settings)) == {("u", "i", 1): (1, 3), ("u", "j", 2): (1, 2)}


def test_an_example_id_is_the_hash_of_the_lengths_and_texts_of_its_key(log, config) -> None:
    (row,) = labelled_events(log("u1 i10 5 impression"), config()).collect()
    assert row.example_id == hashlib.sha256(b"2:u13:i101:510:impression1:0").hexdigest()[:32]


def test_events_that_differ_in_a_configured_key_column_have_different_ids(log, config) -> None:
    settings = config(
        labels={"rule": "threshold", "positive_actions": ["rating"]},
        quality={"event_key": ["user_id", "item_id", "event_time", "weight"]},
    )
    rows = labelled_events(log("u i 5 rating 5 1.0", "u i 5 rating 5 2.0"), settings).collect()
    assert len({row.example_id for row in rows}) == 2


def test_an_impression_that_is_itself_positive_is_refused(log, config) -> None:
    with pytest.raises(ConfigError, match="must not be a positive action, got 'impression'"):
        labelled_events(log("u i 5 impression"), config(labels={"positive_actions": ["impression"]}))
