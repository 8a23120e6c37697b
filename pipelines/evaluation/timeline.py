"""What was known when: events by key and time, asked for by key and clock. [numpy, Arrow]"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.evaluation.metrics import Ints


class Timeline:
    """Rows in order of (key, time). Keys are codes 0, 1, …; a key of -1 in a question has no rows.

    >>> line = Timeline(np.array([0, 1, 0]), np.array([30, 10, 20]))
    >>> start, stop = line.until(np.array([0, 0, -1]), np.array([20, 99, 99]))
    >>> (stop - start).tolist(), line.order[start[0]:stop[0]].tolist()
    ([1, 2, 0], [2])
    """

    def __init__(self, keys: Ints, times: Ints) -> None:
        self.order = np.lexsort((times, keys))
        # Key and time in one integer: times by their rank among the distinct ones, so that no product overflows.
        self._times = np.unique(times)
        self._width = len(self._times) + 1
        self._places = keys[self.order] * self._width + np.searchsorted(self._times, times[self.order])

    def until(self, keys: Ints, times: Ints) -> tuple[Ints, Ints]:
        """For each question the span [start, stop) of `order` that holds the key's rows of a time <= the one asked."""
        low = keys * self._width
        high = low + np.searchsorted(self._times, times, "right")
        return np.searchsorted(self._places, low), np.searchsorted(self._places, high)


def expand(starts: Ints, stops: Ints) -> tuple[Ints, Ints]:
    """Spans to (which span, position), one entry per position.

    >>> [array.tolist() for array in expand(np.array([5, 0]), np.array([7, 1]))]
    [[0, 0, 1], [5, 6, 0]]
    """
    lengths = np.maximum(stops - starts, 0)
    owner = np.repeat(np.arange(len(starts)), lengths)
    first = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) - first[owner] + starts[owner]


def codes(values: pa.ChunkedArray | pa.Array, dictionary: pa.Array) -> Ints:
    """Position of each id in `dictionary`, -1 where it is not there."""
    found = pc.fill_null(pc.index_in(values, value_set=dictionary), -1)
    return np.asarray(found.to_numpy(), np.int64)


def column(table: pa.Table, name: str) -> Ints:
    """An int64 column as numpy."""
    return np.asarray(table.column(name).to_numpy(), np.int64)


@dataclass(frozen=True)
class History:
    """Positive events, each known from its `entry` on: the first clock (`as_of`) at which it counts.

    A clock (as_of, known_by) knows the events with event_time < as_of and available_time <= known_by. As known_by is
    as_of plus one fixed delay, that is max(event_time + 1, available_time - delay) <= as_of.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    users: Ints
    items: Ints
    event_times: Ints
    by_user: Timeline
    by_item: Timeline

    @classmethod
    def of(cls, positives: pa.Table, user_ids: pa.Array, item_ids: pa.Array, delay_us: int) -> "History":
        """From positive events; the ids name every user and item that will be asked for."""
        users, items = codes(positives["user_id"], user_ids), codes(positives["item_id"], item_ids)
        happened, arrived = column(positives, "event_time"), column(positives, "available_time")
        entry = np.maximum(happened + 1, arrived - delay_us)
        return cls(user_ids, item_ids, users, items, happened, Timeline(users, entry), Timeline(items, entry))

    def past_positives(self, items: Ints, as_of: Ints) -> Ints:
        """How many positives of each item its clock knows."""
        start, stop = self.by_item.until(items, as_of)
        return stop - start

    def past_of_users(self, users: Ints, as_of: Ints) -> Ints:
        """How many positives of each user its clock knows."""
        start, stop = self.by_user.until(users, as_of)
        return stop - start

    def known(self, users: Ints, as_of: Ints) -> tuple[Ints, Ints]:
        """The positives of each user that the clock knows, as (which question, event)."""
        owner, position = expand(*self.by_user.until(users, as_of))
        return owner, self.by_user.order[position]
