import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.timeline import History

IDS = pa.array(["a", "b", "c"])
EVENTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.integers(0, 20), st.integers(0, 15)), max_size=25
)


def log(events) -> pa.Table:
    users, items, times, lags = ([e[i] for e in events] for i in range(4))
    arrived = [t + lag for t, lag in zip(times, lags, strict=True)]
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(items, pa.string()),
            "event_time": pa.array(times, pa.int64()),
            "available_time": pa.array(arrived, pa.int64()),
        }
    )


@given(EVENTS, st.integers(0, 5), st.lists(st.tuples(st.integers(-1, 2), st.integers(-2, 40)), min_size=1, max_size=8))
def test_a_clock_knows_exactly_the_events_that_happened_and_arrived_in_time(events, delay, asked) -> None:
    history = History.of(log(events), IDS, IDS, delay)
    codes, clocks = np.array(asked).T

    def known(event, clock) -> bool:
        return event[2] < clock and event[2] + event[3] <= clock + delay

    brute = [sum(IDS[c].as_py() == e[1] and known(e, t) for e in events) if c >= 0 else 0 for c, t in asked]
    assert history.past_positives(codes, clocks).tolist() == brute
    owner, rows = history.known(codes, clocks)
    found = sorted(zip(owner.tolist(), rows.tolist(), strict=True))
    assert found == [
        (question, row)
        for question, (c, t) in enumerate(asked)
        for row, e in enumerate(events)
        if c >= 0 and IDS[c].as_py() == e[0] and known(e, t)
    ]
