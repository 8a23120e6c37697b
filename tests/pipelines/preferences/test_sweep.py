"""A sweep in pieces is the sweep of the whole: whatever a task holds at a time, and however its rows are batched."""

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import PreferenceOptions
from pipelines.preferences.clock import CLOCK
from pipelines.preferences.sweep import Own, sweep_sorted
from pipelines.preferences.sweepers import Recent, Totals
from pipelines.preferences.tallies import tallies
from schemas.columns import TIME_MIN_US

S = 1_000_000
OWN = Own("_key", "_happened", "_arrived")
OPTIONS = PreferenceOptions.model_validate(
    {
        "windows": ["3s", "20s", "lifetime"],
        "statistics": [
            {"name": "seen", "kind": "count"},
            {"name": "stars", "kind": "sum", "actions": ["rate"]},
            {"name": "rate", "kind": "days_since", "actions": ["rate"]},
            {"name": "item", "kind": "distinct", "actions": ["rate"]},
            {"name": "seen", "kind": "decayed", "half_life": "1s"},
        ],
        "recent": ["item_id", "tags"],
        "recent_length": 2,
    }
)
GROUP = {"a": 7, "b": 7, "c": -3, None: 11}
"""Keys of one group collide, as hashes may."""


def made_up(seed: int) -> tuple[list[tuple], list[tuple]]:
    """Events (key, time, lateness, choices, weight, item) and moments (key, time, shift): crowded, tied and late."""
    draw = random.Random(seed)
    log = [
        (
            draw.choice("aaaabc"),
            draw.randrange(100) * S,
            draw.choice([0, 0, 1, 15, 50]) * S,
            draw.randrange(4),
            draw.randint(-5, 5),
            draw.choice("pq"),
        )
        for _ in range(draw.randrange(120))
    ]
    asked = [
        (draw.choice(["a", "a", "a", "b", "c", None]), draw.randrange(100) * S, draw.choice([0, 4]) * S)
        for _ in range(draw.randrange(80))
    ]
    return log, asked


FIELDS = [
    ("_order", pa.int64()),
    ("_key", pa.string()),
    ("_happened", pa.int64()),
    ("_arrived", pa.int64()),
    ("_event_choices", pa.int64()),
    ("_event_weight", pa.int64()),
    ("_event_item_id", pa.string()),
    ("_event_of_item_id", pa.string()),
    ("_event_tags", pa.list_(pa.string())),
    ("n", pa.int64()),
    ("as_of", pa.int64()),
    ("known_by", pa.int64()),
]


def order(key, time) -> int:
    return GROUP[key] * 2**32 + (time - TIME_MIN_US) // (2 * S)


def sorted_rows(log, asked) -> pa.Table:
    rows = [
        dict(zip((name for name, _ in FIELDS), values, strict=True))
        for values in (
            *((order(k, t), k, t, t + late, bits, weight, item, item, [item, "x"], None, None, None)
              for k, t, late, bits, weight, item in log),
            *((order(k, t), k, None, None, None, None, None, None, None, n, t, t + shift)
              for n, (k, t, shift) in enumerate(asked)),
        )
    ]  # fmt: skip
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["_order"]), schema=pa.schema(FIELDS))


def swept(table, sweeper, added, batch, at_a_time):
    batches = table.to_batches(max_chunksize=batch)
    found = pa.Table.from_batches(
        sweep_sorted(batches, OWN, CLOCK, ["n"], added, sweeper, at_a_time),
        schema=pa.schema([("n", pa.int64()), *((name, kind) for name, kind in types(sweeper, added))]),
    )
    return sorted(found.to_pylist(), key=lambda row: row["n"])


def types(sweeper, added):
    lists = 0 if isinstance(sweeper, Totals) else len(OPTIONS.recent)
    return [(name, pa.list_(pa.string()) if i < lists else pa.int64()) for i, name in enumerate(added)]


@pytest.mark.parametrize("kind", ["totals", "recent"])
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), batch=st.integers(1, 30), at_a_time=st.integers(1, 60))
def test_pieces_give_what_the_whole_gives(kind, seed, batch, at_a_time) -> None:
    log, asked = made_up(seed)
    found = tallies(OPTIONS)
    if kind == "totals":
        sweeper, added = Totals(found), [*found.sum_names, *found.last_names, "event", "available"]
    else:
        sweeper, added = Recent(OPTIONS), [*OPTIONS.recent, "event", "available"]
    table = sorted_rows(log, asked)
    whole = swept(table, sweeper, added, 10**6, 10**6)
    assert [row["n"] for row in whole] == list(range(len(asked)))
    assert swept(table, sweeper, added, batch, at_a_time) == whole


def test_a_hot_key_carries_on_what_its_windows_hold_and_not_its_history() -> None:
    found = tallies(OPTIONS)
    log = [("a", second * S, 0, 3, 1, "p") for second in range(0, 4000, 2)]
    held = []

    class Watched(Totals):
        def compute(self, block, queries):
            held.append(len(block.events.key))
            return super().compute(block, queries)

    table = sorted_rows(log, [("a", second * S, 0) for second in range(1, 4000, 2)])
    names = [*found.sum_names, *found.last_names, "event", "available"]
    rows = pa.Table.from_batches(
        sweep_sorted(table.to_batches(50), OWN, CLOCK, ["n"], names, Watched(found), 100)
    ).to_pylist()
    lifetime = next(i for i, total in enumerate(found.sums) if total.window == "lifetime" and total.of == "events")
    assert [row[f"sum_{lifetime}"] for row in sorted(rows, key=lambda row: row["n"])] == list(range(1, 2001))
    assert max(held) < 200


def test_what_is_known_of_a_moment_does_not_end_before_it() -> None:
    found = tallies(OPTIONS)
    table = sorted_rows([], [("a", 5 * S, -S)])
    with pytest.raises(ValueError, match="known_by must not be before as_of"):
        list(sweep_sorted(table.to_batches(), OWN, CLOCK, ["n"], [], Totals(found)))
