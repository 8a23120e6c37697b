"""What a sweep makes of the events of its keys: tallies, or a user's bags. [numpy]"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from pipelines.config import PreferenceOptions, parse_duration
from pipelines.preferences.bags import alphabetical, bags, largest
from pipelines.preferences.sweep import Block
from pipelines.preferences.tallies import EVERY, Choice, Tallies, window_us
from pipelines.preferences.windows import (
    DECAY_HALF_LIVES,
    DECAY_SCALE,
    NONE,
    Bools,
    Events,
    Ints,
    Queries,
    newest,
    views,
)


class Totals:
    """Sums, last times, largest event_time and available_time in sight."""

    def __init__(self, found: Tallies) -> None:
        self._found = found
        self._lifetime = [i for i, total in enumerate(found.sums) if window_us(total.window) is None]
        self.sums = len(self._lifetime)

    def compute(self, block: Block, queries: Queries) -> list[pa.Array]:
        """int64 (queries,), null where no event of the key is in sight."""
        found, events = self._found, block.events
        chosen = self._chosen(block)
        rows = len(queries.key)
        sums = np.zeros((len(found.sum_names), rows), np.int64)
        distincts, decays = len(found.sums), len(found.sums) + len(found.distincts)
        ids = {
            name: _codes(block.columns.field(f"of_{name}")) for name in {distinct.of for distinct in found.distincts}
        }
        lasts = np.full((len(found.lasts) + 2, rows), NONE)
        any_seen = np.zeros(rows, bool)
        for view in views(events, queries, len(block.before)):
            any_seen[view.rows] = view.any_seen
            for i, total in enumerate(found.sums):
                sums[i, view.rows] = view.sums(self._values(i, block, chosen), window_us(total.window))
            for i, (choice, of, window) in enumerate(found.distincts, distincts):
                sums[i, view.rows] = view.distinct(ids[of], window_us(window), chosen[choice] == 1)
            for i, (choice, half_life) in enumerate(found.decays, decays):
                decayed = view.decayed(chosen[choice], parse_duration(half_life))
                sums[i, view.rows] = np.rint(decayed * DECAY_SCALE)
            for i, choice in enumerate(found.lasts):
                lasts[i, view.rows] = view.latest(1, chosen[choice] == 1)[:, 0]
            lasts[-2, view.rows] = view.latest(1)[:, 0]
            lasts[-1, view.rows] = view.last_available()
        sums[self._lifetime] += block.before[queries.key].T
        times = [*[events.event_time] * (len(lasts) - 1), events.available_time]
        return [
            *(pa.array(total, mask=~any_seen) for total in sums),
            *(largest(time, last[:, np.newaxis]) for time, last in zip(times, lasts, strict=True)),
        ]

    def outlasting(self, block: Block, until: int) -> tuple[Bools, Ints]:
        """Kept: what a window can still hold or release, and the last of each choice, by time and by arrival."""
        found, events = self._found, block.events
        windows = [window_us(total.window) or 0 for total in found.sums]
        windows += [window_us(distinct.window) or 0 for distinct in found.distincts]
        windows += [DECAY_HALF_LIVES * parse_duration(decay.half_life) for decay in found.decays]
        in_sight = events.available_time <= until
        kept = ~in_sight | (events.event_time >= until - max(windows, default=0))
        chosen = self._chosen(block)
        for choice, of, window in found.distincts:
            if window_us(window) is None:
                kept |= _one_of_each(events.key, block.columns.field(f"of_{of}"), in_sight & (chosen[choice] == 1))
        # Among those that every later moment sees: one that has yet to arrive takes nobody's place.
        for mask in (in_sight, *(in_sight & (chosen[choice] == 1) for choice in found.lasts)):
            kept |= newest(events, events.event_time, 1, mask)
        kept |= newest(events, events.available_time, 1, in_sight)
        before = block.before.copy()
        for column, i in enumerate(self._lifetime):
            np.add.at(before[:, column], events.key[~kept], self._values(i, block, chosen)[~kept])
        return kept, before

    def _chosen(self, block: Block) -> dict[Choice, Ints]:
        if self._found.choices == (EVERY,):
            return {EVERY: np.ones(len(block.events.key), np.int64)}
        bits = block.columns.field("choices").to_numpy()
        return {choice: (bits >> i) & 1 for i, choice in enumerate(self._found.choices)}

    def _values(self, i: int, block: Block, chosen: Mapping[Choice, Ints]) -> Ints:
        total = self._found.sums[i]
        values = chosen[total.choice]
        return values * block.columns.field("weight").to_numpy() if total.of == "weights" else values


class Recent:
    """The user's bags, and the largest times of the positives in them."""

    sums = 0

    def __init__(self, options: PreferenceOptions) -> None:
        self._options = options

    def compute(self, block: Block, queries: Queries) -> list[pa.Array]:
        """list<string> (queries,) for each bag, then the two times."""
        length, events = self._options.recent_length, self._ordered(block)
        latest = np.full((len(queries.key), length), NONE)
        for view in views(events, queries, len(block.before)):
            latest[view.rows] = view.latest(length)
        lists = [bags(block.columns.field(name), latest) for name in self._options.recent]
        return [*lists, largest(events.event_time, latest), largest(events.available_time, latest)]

    def outlasting(self, block: Block, until: int) -> tuple[Bools, Ints]:
        """Kept: the latest, and what has not come into sight."""
        events = self._ordered(block)
        in_sight: Bools = events.available_time <= until
        return ~in_sight | newest(events, events.event_time, self._options.recent_length, in_sight), block.before

    def _ordered(self, block: Block) -> Events:
        """Of equal times the smaller item_id counts as the later, of one item the event available first."""
        _, arrival = np.unique(block.events.available_time, return_inverse=True)
        tie = -(alphabetical(block.columns.field("item_id")) * max(len(arrival), 1) + arrival)
        return block.events._replace(tie=tie)


def _codes(values: pa.Array) -> Ints:
    """(n,) small integers, equal where values are."""
    codes: Ints = values.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _one_of_each(key: Ints, values: pa.Array, chosen: Bools) -> Bools:
    """Marks one of the `chosen` events of each key and value."""
    rows = np.flatnonzero(chosen)
    pairs = np.stack([key[rows], _codes(values)[rows]])
    _, first = np.unique(pairs, axis=1, return_index=True)
    marks = np.zeros(len(key), bool)
    marks[rows[first]] = True
    return marks
