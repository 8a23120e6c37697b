"""The sweep against a plain reading of the definition: late, tied and duplicated events, several keys and shifts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.preferences.windows import NONE, Events, Queries, View, views

KEYS = 4
TIME = st.integers(-20, 20)
EVENT = st.tuples(st.integers(0, KEYS - 2), TIME, st.integers(0, 12), st.integers(-5, 5), st.booleans())
QUERY = st.tuples(st.integers(0, KEYS - 1), st.integers(-22, 25), st.sampled_from([-3, 0, 4]))


def arrays(events, queries) -> tuple[Events, Queries]:
    key, time, lag, _, _ = np.array(events, np.int64).reshape(-1, 5).T
    of, as_of, shift = np.array(queries, np.int64).reshape(-1, 3).T
    return Events(key, time, time + lag, tie=np.arange(len(key))), Queries(of, as_of, as_of + shift)


def in_sight(events, query, window=None) -> list[int]:
    """Indices of the events that the definition says are seen."""
    key, as_of, shift = query
    return [
        i
        for i, (of, time, lag, _, _) in enumerate(events)
        if of == key and time < as_of and time + lag <= as_of + shift and (window is None or as_of - window <= time)
    ]


def gathered(events, queries, ask) -> list:
    """What `ask(view)` says, in the order of the queries."""
    answers = [None] * len(queries)
    for view in views(*arrays(events, queries), KEYS):
        for row, answer in zip(view.rows.tolist(), ask(view).tolist(), strict=True):
            answers[row] = answer
    return answers


@settings(deadline=None, max_examples=300)
@given(st.lists(EVENT, max_size=40), st.lists(QUERY, max_size=20), st.sampled_from([None, 1, 3, 10]))
def test_sums_are_those_of_the_definition(events, queries, window) -> None:
    values = np.array([value for *_, value, _ in events], np.int64)
    swept = gathered(events, queries, lambda view: view.sums(values, window))
    assert swept == [sum(values[i] for i in in_sight(events, query, window)) for query in queries]
    assert gathered(events, queries, lambda view: view.any_seen) == [bool(in_sight(events, q)) for q in queries]


@settings(deadline=None, max_examples=200)
@given(st.lists(EVENT, max_size=40), st.lists(QUERY, max_size=20), st.integers(1, 5))
def test_the_latest_are_those_of_the_definition_however_late_they_arrived(events, queries, length) -> None:
    chosen = np.array([choice for *_, choice in events], bool)
    expected = []
    for query in queries:
        seen = [i for i in in_sight(events, query) if chosen[i]]
        latest = sorted(seen, key=lambda i: (events[i][1], i), reverse=True)[:length]
        expected.append(latest + [NONE] * (length - len(latest)))
    assert gathered(events, queries, lambda view: view.latest(length, chosen)) == expected


@settings(deadline=None, max_examples=100)
@given(st.lists(EVENT, min_size=1, max_size=40), st.lists(QUERY, max_size=20))
def test_the_last_available_is_that_of_the_definition(events, queries) -> None:
    _, _, available, _ = arrays(events, queries)[0]
    found = gathered(events, queries, View.last_available)
    times = [None if i == NONE else available[i] for i in found]
    assert times == [max((available[i] for i in in_sight(events, query)), default=None) for query in queries]


@settings(deadline=None, max_examples=300)
@given(st.lists(EVENT, max_size=40), st.lists(QUERY, max_size=20), st.sampled_from([None, 1, 3, 10]), st.booleans())
def test_distinct_values_are_those_of_the_definition(events, queries, window, restricted) -> None:
    values = np.array([value + 5 for *_, value, _ in events], np.int64)
    chosen = np.array([choice for *_, choice in events], bool) if restricted else None
    swept = gathered(events, queries, lambda view: view.distinct(values, window, chosen))
    expected = [
        len({values[i] for i in in_sight(events, query, window) if chosen is None or chosen[i]}) for query in queries
    ]
    assert swept == expected


@settings(deadline=None, max_examples=300)
@given(st.lists(EVENT, max_size=40), st.lists(QUERY, max_size=20), st.sampled_from([1, 2, 7]))
def test_decayed_sums_are_those_of_the_definition(events, queries, half_life) -> None:
    values = np.array([choice for *_, choice in events], np.int64)
    swept = gathered(events, queries, lambda view: view.decayed(values, half_life))
    for found, query in zip(swept, queries, strict=True):
        ages = [(query[1] - events[i][1]) / half_life for i in in_sight(events, query) if values[i]]
        assert found == pytest.approx(sum(2.0**-age for age in ages), abs=1e-7)


@settings(deadline=None, max_examples=50)
@given(st.lists(EVENT, min_size=2, max_size=40), st.lists(QUERY, min_size=1, max_size=20), st.randoms())
def test_decayed_sums_are_the_same_to_the_bit_in_any_order_and_beside_other_keys(events, queries, random) -> None:
    def swept(log):
        values = np.ones(len(log), np.int64)
        return gathered(log, queries, lambda view: view.decayed(values, 3))

    shuffled = random.sample(events, len(events))
    alone = [event for event in shuffled if event[0] == queries[0][0]]
    assert swept(shuffled) == swept(events)
    assert swept(alone)[0] == swept(events)[0]


def test_sums_of_one_key_are_right_though_the_sums_over_all_keys_wrap_around() -> None:
    large = 2**62
    events = Events(np.arange(4), np.zeros(4, np.int64), np.zeros(4, np.int64))
    queries = Queries(np.arange(4), np.ones(4, np.int64), np.ones(4, np.int64))
    (view,) = views(events, queries, 4)
    assert view.sums(np.full(4, large), 10).tolist() == [large] * 4
