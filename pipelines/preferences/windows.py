"""What was visible of past events at many moments, for many keys at once: sums over windows, latest events.

Plain numpy; engines and options are left to others. Keys are codes 0 … keys - 1, times int64 UTC microseconds.

A query (as_of, known_by) sees an event where event_time < as_of and available_time <= known_by; its window w holds
the seen events with as_of - w <= event_time. With shift = known_by - as_of, the event comes into sight at
entry = max(available_time - shift, event_time + 1) and leaves the window at max(event_time + w + 1, entry).
An event whose entry is the later of the two is never in that window; the others leave in the order of event_time.
So two sorts, by (key, entry) and by (key, event_time), and running sums over them serve every window.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
BLOCK_HALF_LIVES, BLOCKS = 8, 5
"""How decayed sums are kept: in blocks of so many half-lives, and so many of them, the one of the moment included."""
DECAY_SCALE = float(2**30)
DECAY_HALF_LIVES = BLOCK_HALF_LIVES * BLOCKS + 32
"""An event older than so many half-lives adds nothing to a decayed sum, not even by its last bit."""
NONE = -1
"""In place of an event's index: there is none."""


class Events(NamedTuple):
    """Columns of n events, each of shape (n,), in any order."""

    key: Ints
    event_time: Ints
    available_time: Ints
    tie: Ints | None = None
    """Of events of one key at one time, the larger is the later; absent: only times are asked for."""


class Queries(NamedTuple):
    """Columns of q moments, each of shape (q,), in any order."""

    key: Ints
    as_of: Ints
    known_by: Ints


class View:
    """Events as seen by those queries that share one shift."""

    def __init__(self, events: Events, queries: Queries, keys: int, rows: Ints, shift: int) -> None:
        """Sort the events for `queries[rows]`, whose known_by - as_of is `shift`."""
        self.rows = rows
        """Which queries these are: every method answers for them, in this order."""
        self._events = events
        self._as_of = queries.as_of[rows]
        entry = np.maximum(events.available_time - shift, events.event_time + 1)
        self._delay = entry - events.event_time
        self._of, self._keys = queries.key[rows], keys
        self._time = _Order(events.key, events.event_time, keys, events.tie)
        self._entry = _Order(events.key, entry, keys)
        self._by_time, self._by_entry = self._time.events, self._entry.events
        # Places are counted over all keys: those of earlier keys cancel out in every difference.
        self._first = self._entry.bounds[self._of]
        self._entered: Ints = self._entry.below(self._of, self._as_of + 1)

    @property
    def any_seen(self) -> Bools:
        """Whether a query sees any event of its key, however old. Shape (rows,)."""
        seen: Bools = self._entered > self._first
        return seen

    def sums(self, values: Ints, window: int | None) -> Ints:
        """Sum of `values` (n,) over the seen events in the window, in microseconds; None: of any age. Shape (rows,)."""
        if window is None:
            total = _running_sum(values[self._by_entry])
            return total[self._entered] - total[self._first]
        kept = np.where(self._delay <= window, values, 0)
        left = self._time.below(self._of, self._as_of - window)
        return _running_sum(kept[self._by_entry])[self._entered] - _running_sum(kept[self._by_time])[left]

    def distinct(self, values: Ints, window: int | None, chosen: Bools | None = None) -> Ints:
        """How many different `values` (n,), codes from 0, the seen events in the window have. Shape (rows,).

        An event holds its value from its entry until it leaves; stretches of one key and value that overlap are one.
        So a moment has as many values as stretches have begun less those that have ended. `chosen` (n,) restricts.
        """
        held = np.ones(len(values), bool) if window is None else self._delay <= window
        if chosen is not None:
            held &= chosen
        of = np.flatnonzero(held)
        entry = self._events.event_time[of] + self._delay[of]
        order = np.lexsort((entry, values[of], self._events.key[of]))
        of, entry = of[order], entry[order]
        key, time = self._events.key[of], self._events.event_time[of]
        is_first = np.ones(len(of), bool)
        is_first[1:] = (key[1:] != key[:-1]) | (values[of[1:]] != values[of[:-1]])
        if window is None:
            return self._count_until(key[is_first], entry[is_first])
        # Events leave in the order of their time: the latest so far decides when a stretch ends. Ranks keep the
        # running maximum of one key and value apart from the next.
        times, rank = np.unique(time, return_inverse=True)
        group = np.cumsum(is_first) * (len(times) + 1)
        leaves = times[np.maximum.accumulate(group + rank) - group] + window + 1
        begins_anew = is_first.copy()
        begins_anew[1:] |= entry[1:] > leaves[:-1]
        ends_here = np.append(begins_anew[1:], True)[: len(of)]
        begun = self._count_until(key[begins_anew], entry[begins_anew])
        return begun - self._count_until(key[ends_here], leaves[ends_here])

    def decayed(self, values: Ints, half_life: int) -> Floats:
        """Sum of `values` (n,) over the seen events, each halved every `half_life` since it happened: float64 (rows,).

        Exact in whatever order: events are summed in blocks of 8 half-lives by their entry, as multiples of 2^-30 of
        the weight of the block's beginning. Blocks that lie 32 half-lives back count for nothing.
        """
        _, scaled = decay_terms(self._events.event_time, self._events.event_time + self._delay, half_life)
        total = _running_sum((values * scaled)[self._by_entry])
        found = np.zeros(len(self.rows))
        until = self._entered
        for begin, share in decay_blocks(self._as_of, half_life):
            since = np.minimum(self._entry.below(self._of, begin), until)
            found += share * ((total[until] - total[since]) / DECAY_SCALE)
            until = since
        return found

    def _count_until(self, key: Ints, times: Ints) -> Ints:
        """How many of `times`, each of a `key`, are at or before each moment, by its key. Shape (rows,)."""
        order = _Order(key, times, self._keys)
        return order.below(self._of, self._as_of + 1) - order.bounds[self._of]

    def latest(self, length: int, chosen: Bools | None = None) -> Ints:
        """Indices of the latest `length` seen events, latest first, NONE where there are fewer. Shape (rows, length).

        `chosen` (n,) restricts them.
        """
        return self._largest(self._by_time, length, chosen)

    def last_available(self) -> Ints:
        """Index of the seen event with the largest available_time, or NONE. Shape (rows,)."""
        by_available = _Order(self._events.key, self._events.available_time, self._keys)
        return self._largest(by_available.events, 1, None)[:, 0]

    def _largest(self, order: Ints, length: int, chosen: Bools | None) -> Ints:
        """The seen events that come last in `order`, which sorts by key first. Linear in events, whatever their delays.

        In order of entry, a running maximum of places gives the last one; what each arrival pushes out (itself, or
        the maximum so far) makes the sequence whose running maximum gives the second to last; and so on.
        """
        found = np.full((len(self.rows), length), NONE)
        if not len(order):
            return found
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        arriving = place[self._by_entry]
        if chosen is not None:
            arriving = np.where(chosen[self._by_entry], arriving, NONE)
        newest = np.maximum(self._entered, 1) - 1
        for column in range(length):
            largest = np.maximum.accumulate(arriving)
            at = largest[newest]
            # A place before the key's first is what an earlier key has left over.
            there = self.any_seen & (at >= self._first)
            if not there.any():
                break
            found[there, column] = order[at[there]]
            arriving = np.concatenate([[NONE], np.minimum(arriving[1:], largest[:-1])])
        return found


class _Order:
    """The events of each key in the order of some time, and where a moment falls among them."""

    def __init__(self, key: Ints, times: Ints, keys: int, tie: Ints | None = None) -> None:
        self.bounds: Ints = np.concatenate([[0], np.cumsum(np.bincount(key, minlength=keys))])
        """Place of each key's first event, and at the end how many there are."""
        self._low = int(times.min()) if len(times) else 0
        self._span = int(times.max()) - self._low + 1 if len(times) else 1
        # Key and time in one integer, where they fit: one sort and one search serve all keys.
        self._is_joint = self._span * (keys + 1) < 2**62
        sorted_by = key * self._span + (times - self._low) if self._is_joint else times
        if self._is_joint:
            self.events = np.argsort(sorted_by) if tie is None else np.lexsort((tie, sorted_by))
        else:
            self.events = np.lexsort((times, key) if tie is None else (tie, times, key))
        """Indices of the events, in order."""
        self._sorted = sorted_by[self.events]

    def below(self, key: Ints, target: Ints) -> Ints:
        """Place of the first event of each `key` that is not before `target`, or where they end. Shapes (rows,)."""
        if self._is_joint:
            within = np.clip(target - self._low, 0, self._span)
            places: Ints = np.searchsorted(self._sorted, key * self._span + within)
            return places
        return _count_below(self._sorted, self.bounds[key], self.bounds[key + 1], target)


def decay_terms(event_time: Ints, entry: Ints, half_life: int) -> tuple[Ints, Ints]:
    """The block of each event's entry, and its weight in multiples of 1 / DECAY_SCALE of one at the block's beginning.

    Shapes (n,); `half_life` in microseconds, blocks counted from 1970.
    """
    span = BLOCK_HALF_LIVES * half_life
    block = entry // span
    return block, np.rint(np.exp2((event_time - block * span) / half_life) * DECAY_SCALE).astype(np.int64)


def decay_blocks(as_of: Ints, half_life: int) -> Iterator[tuple[Ints, Floats]]:
    """Where each block that counts at `as_of` (rows,) begins, and what is left since of a weight of 1; newest first."""
    span = BLOCK_HALF_LIVES * half_life
    for back in range(BLOCKS):
        begin = (as_of // span - back) * span
        yield begin, np.exp2((begin - as_of) / half_life)


def views(events: Events, queries: Queries, keys: int) -> Iterator[View]:
    """A view for each distinct known_by - as_of: one in practice, as a configuration has one landing delay."""
    shifts = queries.known_by - queries.as_of
    for shift in np.unique(shifts):
        yield View(events, queries, keys, np.flatnonzero(shifts == shift), int(shift))


def newest(events: Events, times: Ints, length: int, chosen: Bools) -> Bools:
    """Marks each key's `length` events of the largest `times` (n,), by tie where equal, among those `chosen` (n,)."""
    ties = () if events.tie is None else (events.tie,)
    order = np.lexsort((*ties, times, events.key))
    order = order[chosen[order]]
    keys = events.key[order]
    ends = np.searchsorted(keys, keys, side="right")
    marks = np.zeros(len(events.key), bool)
    marks[order[ends - np.arange(len(order)) <= length]] = True
    return marks


def _running_sum(values: Ints) -> Ints:
    """(n,) to (n + 1,): the sum of the first so many. May wrap around: differences come out right nevertheless."""
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    return total


def _count_below(values: Ints, low: Ints, high: Ints, target: Ints) -> Ints:
    """For each target the first place in [low, high) whose value is not below it, else high; values sorted therein.

    A binary search for all targets at once, since one `searchsorted` cannot range over many sorted stretches.
    """
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        unsettled = low < high
        below = unsettled & (values[np.minimum(middle, len(values) - 1)] < target)
        low, high = np.where(below, middle + 1, low), np.where(unsettled & ~below, middle, high)
    return low
