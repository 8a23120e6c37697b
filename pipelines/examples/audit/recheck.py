"""Published rows beside their plain recomputation: what differs, column by column."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.examples.audit.log import Clock, Row
from pipelines.examples.audit.oracle import Oracle
from pipelines.examples.audit.outcomes import Outcomes
from pipelines.examples.audit.report import Check, merged, mismatch

TOLERANCE = 1e-9
"""Relative, and absolute below 1: equal formulas may be evaluated in another order."""
DECAY_TOLERANCE = 1e-6
"""The same for decayed counts, which are kept as multiples of 2^-30 and end after 32 half-lives."""
Values = dict[str, Any]


def recheck_examples(rows: Sequence[Row], oracle: Oracle, outcomes: Outcomes) -> list[Check]:
    """One check a group of columns, over the sampled examples."""

    def expected(row: Row) -> dict[str, Values]:
        user, item, time = row["user_id"], row["item_id"], row["event_time"]
        clock = oracle.clock(time)
        last_event, last_available = oracle.last_known(user, item, time, clock)
        return {
            "clock": {"as_of": clock.as_of, "known_by": clock.known_by},
            "user features": oracle.user_features(user, time, clock),
            "item features": oracle.item_features(item, time, clock),
            "cross features": oracle.cross_features(user, item, time, clock),
            "provenance": {"max_event_time": last_event, "max_available_time": last_available},
            "label": outcomes.labels(row) or {"example_id": "an example of a logged event"},
            "split": {"split": outcomes.split(time)},
            "cold flags": {"cold_user": outcomes.cold_user(user), "cold_item": outcomes.cold_item(item)},
        }

    return _compare(rows, expected, "recomputed", lambda row: f"example {row['example_id']}")


def recheck_candidates(rows: Sequence[Row], oracle: Oracle, outcomes: Outcomes) -> list[Check]:
    """One check a group of columns, over the sampled evaluation candidates."""

    def expected(row: Row) -> dict[str, Values]:
        item, clock = row["item_id"], Clock(row["as_of"], row["known_by"])
        return {
            "item features": oracle.item_features(item, row["in_effect_from"], clock),
            "existence": {"exists_from": outcomes.exists_from(item), **outcomes.interval(item, row["in_effect_from"])},
            "history": {"past_positives": oracle.past_positives(item, clock), "cold_item": outcomes.cold_item(item)},
        }

    return _compare(
        rows, expected, "recomputed candidates", lambda row: f"candidate {row['item_id']} at {row['as_of']}"
    )


def same(found: Any, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Equal; floats within the tolerance, NaN like NaN, lists value by value.

    >>> same(0.1 + 0.2, 0.3), same(None, 0.0), same(["a"], ["a", "b"])
    (True, False, False)
    """
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        both_nan = math.isnan(found) and math.isnan(expected)
        return both_nan or math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance)
    return bool(found == expected)


def _compare(
    rows: Sequence[Row], expected: Callable[[Row], dict[str, Values]], name: str, label: Callable[[Row], str]
) -> list[Check]:
    failures: dict[str, list[str]] = {}
    for row in rows:
        for group, values in expected(row).items():
            broken = [
                mismatch(label(row), name, row[name], value)
                for name, value in values.items()
                if not same(row[name], value, DECAY_TOLERANCE if "_decayed_" in name else TOLERANCE)
            ]
            failures.setdefault(group, []).extend(broken[:1])
    return [
        merged(f"{name}: {group}", "recomputed", len(rows), broken, "equal to the plain recomputation")
        for group, broken in failures.items()
    ]
