"""The log and the catalogue as plain columns and lists, for the plain recomputation."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Rows = npt.NDArray[np.int64]
"""Row numbers of a log."""
Row = Mapping[str, Any]
NO_ROWS: Rows = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Clock:
    """What counts: events with event_time < as_of and available_time <= known_by."""

    as_of: int
    known_by: int


class Log:
    """Events in columns."""

    def __init__(self, table: pa.Table) -> None:
        self.time: npt.NDArray[np.int64] = table["event_time"].to_numpy()
        self.available: npt.NDArray[np.int64] = table["available_time"].to_numpy()
        self.weight: npt.NDArray[np.float64] = table["weight"].to_numpy()
        self.user: list[str] = table["user_id"].to_pylist()
        self.item: list[str] = table["item_id"].to_pylist()
        self.action: list[str] = table["action"].to_pylist()
        actions = np.array(self.action, dtype=object)
        self._is_action = {name: np.array(actions == name, dtype=bool) for name in set(self.action)}

    def rows_by(self, keys: Iterable[Iterable[str]]) -> dict[str, Rows]:
        """Rows of each key, where `keys` lists those of row 0, row 1, …"""
        found: dict[str, list[int]] = {}
        for number, values in enumerate(keys):
            for value in values:
                found.setdefault(value, []).append(number)
        return {value: np.array(numbers, dtype=np.int64) for value, numbers in found.items()}

    def known(self, rows: Rows, clock: Clock) -> Rows:
        """Those of `rows` that happened before the clock and were available by it."""
        kept: Rows = rows[(self.time[rows] < clock.as_of) & (self.available[rows] <= clock.known_by)]
        return kept

    def since(self, rows: Rows, start: int) -> Rows:
        """Those of `rows` that happened at `start` or later."""
        kept: Rows = rows[self.time[rows] >= start]
        return kept

    def acted(self, rows: Rows, actions: Sequence[str] | None, min_weight: float | None = None) -> Rows:
        """Those of `rows` with one of the actions (None: any) and at least that weight (None: any)."""
        keep = np.full(len(rows), actions is None)
        for name in actions or ():
            if name in self._is_action:
                keep |= self._is_action[name][rows]
        if min_weight is not None:
            keep &= self.weight[rows] >= min_weight
        kept: Rows = rows[keep]
        return kept


class Versions:
    """Content versions of each id, oldest first."""

    def __init__(self, table: pa.Table, id_column: str) -> None:
        self._of: dict[str, list[Row]] = {}
        for row in sorted(table.to_pylist(), key=lambda row: int(row["valid_from"])):
            self._of.setdefault(row[id_column], []).append(row)
        self._starts = {key: [int(row["valid_from"]) for row in rows] for key, rows in self._of.items()}

    def all(self, key: str) -> list[Row]:
        """Every version of one id."""
        return self._of.get(key, [])

    def at(self, key: str, time: int) -> Row:
        """The version with the largest valid_from <= time; an empty mapping where there is none."""
        place = bisect_right(self._starts.get(key, []), time)
        return self._of[key][place - 1] if place else {}


def as_list(value: Any) -> list[Any]:
    """A category's value or values: none for missing, one for a category, all of a multi-category's."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


class Past:
    """Everything that sampled rows rest on: nothing that could count in one of their columns is missing.

    `user_log` holds all events of the sampled users; `item_log` those of the sampled items and of every item that ever
    had one of their categories; `items` and `users` all content versions of everything in either log or the sample.
    """

    def __init__(self, user_log: pa.Table, item_log: pa.Table, items: pa.Table, users: pa.Table) -> None:
        self.user_log, self.item_log = Log(user_log), Log(item_log)
        self.items, self.users = Versions(items, "item_id"), Versions(users, "user_id")
        self.rows_of_user = self.user_log.rows_by([user] for user in self.user_log.user)
        self.rows_of_item = self.item_log.rows_by([item] for item in self.item_log.item)
