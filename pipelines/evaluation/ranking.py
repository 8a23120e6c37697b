"""The evaluation clock: what each positive example of a split would have been up against at its own moment.

A positive example of user u and item i at t belongs to a clock (as_of, known_by). Its candidates are the items that
existed at t, each in the version in effect at t (`in_effect_from <= t < in_effect_to`), with the statistics of the
clock. With `filter_seen`, items of which the clock knows a positive of u are no candidates; an example whose own item
is one of those is not evaluated, and counted. An item that was no candidate at t cannot be ranked and counts as a
miss. Several positives of one user with one item at one clock are one: the earliest.

What comes out is one place per evaluated example and ranker. From it `assess` makes

* recall@k of a user: the share of the user's evaluated examples with place <= k; the user's other relevant items
  compete like any others;
* NDCG@k, hit rate@k and MRR of a user: the mean over the user's clocks, where the relevant items of a clock are its
  examples, so that a user with ten positives in a day is not blamed for the ten places they need. A clock is a hit
  where its best place is at most k; its reciprocal rank is that of its best place.

All are then averaged over users, who count alike however active they are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from pipelines.evaluation.metrics import Bools, Floats, Ints, ranks
from pipelines.evaluation.rankers import Ranker, Vectors, dot
from pipelines.evaluation.timeline import History, codes, column, expand

_BLOCK_SCORES = 2_000_000
"""Scores held at a time, so that memory does not grow with users × items."""


@dataclass(frozen=True)
class Catalogue:
    """The candidates of every clock, read one clock at a time."""

    clocks: Ints
    """Every `as_of` there are candidates for, ascending."""
    at: Callable[[int], pa.Table]


@dataclass(frozen=True)
class Ranked:
    """The places of a split's evaluated examples."""

    rows: Ints
    """Row of the split table, ascending."""
    places: dict[str, Ints]
    """Ranker -> place of each row's item, UNRANKED where it was no candidate."""
    counts: dict[str, int]
    """clocks evaluated; examples: ranked, already_seen (left out), not_in_catalogue (misses), of other clocks."""


def keyed_draws(ids: list[str], seed: int) -> Floats:
    """A number in [0, 1) for each id, from a hash keyed by the seed."""
    key = seed.to_bytes(16, "little", signed=True)
    hashes = [int.from_bytes(blake2b(text.encode(), digest_size=8, key=key).digest(), "little") for text in ids]
    return np.array(hashes, np.uint64).astype(np.float64) / 2.0**64 * (1 - 2**-52)


def sample_clocks(clocks: Ints, most: int, seed: int) -> Ints:
    """At most `most` of the clocks, ascending, by keyed hash."""
    draws = keyed_draws([f"clock {clock}" for clock in clocks], seed)
    return np.sort(clocks[np.argsort(draws, kind="stable")[:most]])


def relevant_rows(split: pa.Table, users: Ints, items: Ints) -> Ints:
    """Rows of the positives, one per (user, clock, item): the earliest. The table is in order of event_time."""
    positive = np.flatnonzero(split["label"].to_numpy() > 0.5)
    key = np.stack([users, column(split, "as_of"), items], axis=1)[positive]
    return np.sort(positive[np.unique(key, axis=0, return_index=True)[1]])


def rank_split(
    split: pa.Table,
    users: Mapping[str, Vectors],
    rankers: Mapping[str, Ranker],
    catalogue: Catalogue,
    history: History,
    *,
    max_clocks: int,
    filter_seen: bool,
    seed: int,
) -> Ranked:
    """Places of the positives of a split, for every ranker in one pass over the clocks.

    `split` is the examples of one split in order of (event_time, example_id); `users` the rankers' user vectors of its
    rows. Each clock holds a block of users × candidates at a time.
    """
    as_of = column(split, "as_of")
    user_codes, item_codes = codes(split["user_id"], history.user_ids), codes(split["item_id"], history.item_ids)
    relevant = relevant_rows(split, user_codes, item_codes)
    offered = np.intersect1d(as_of[relevant], catalogue.clocks)
    clocks = sample_clocks(offered, max_clocks, seed)
    times, draws = column(split, "event_time"), np.zeros(split.num_rows)
    draws[relevant] = keyed_draws(split["example_id"].take(relevant).to_pylist(), seed)

    kept: list[Ints] = []
    places: dict[str, list[Ints]] = {name: [] for name in rankers}
    counts = {"clocks": len(clocks), "ranked": 0, "already_seen": 0, "not_in_catalogue": 0}
    counts["other_clocks"] = int((~np.isin(as_of[relevant], clocks)).sum())
    for clock in clocks:
        candidates = _Candidates.of(catalogue.at(int(clock)), history.item_ids)
        items = {name: ranker.items(candidates.table) for name, ranker in rankers.items()}
        for rows in _blocks(relevant[as_of[relevant] == clock], len(candidates.items)):
            eligible, own = candidates.in_effect(times[rows], item_codes[rows])
            if filter_seen:
                asked, event = history.known(user_codes[rows], as_of[rows])
                seen = history.items[event]
                asked_column, seen_column = candidates.versions(seen)
                eligible[asked[asked_column], seen_column] = False
                fresh = np.ones(len(rows), bool)
                fresh[asked[seen == item_codes[rows][asked]]] = False
                counts["already_seen"] += int((~fresh).sum())
                rows, eligible, own = rows[fresh], eligible[fresh], own[fresh]
            counts["ranked"] += len(rows)
            counts["not_in_catalogue"] += int((own < 0).sum())
            kept.append(rows)
            for name in rankers:
                scores = dot(users[name][rows], items[name])
                places[name].append(ranks(scores, eligible, own, draws[rows]))
    rows = np.concatenate([np.zeros(0, np.int64), *kept])
    order = np.argsort(rows)
    joined = {name: np.concatenate([np.zeros(0, np.int64), *found])[order] for name, found in places.items()}
    return Ranked(rows[order], joined, counts)


@dataclass(frozen=True)
class _Candidates:
    """The candidates of one clock, in order of (item code, in_effect_from)."""

    table: pa.Table
    items: Ints
    since: Ints
    until: Ints

    @classmethod
    def of(cls, table: pa.Table, item_ids: pa.Array) -> "_Candidates":
        items, since = codes(table["item_id"], item_ids), column(table, "in_effect_from")
        order = np.lexsort((since, items))
        return cls(table.take(order), items[order], since[order], column(table, "in_effect_to")[order])

    def versions(self, items: Ints) -> tuple[Ints, Ints]:
        """(position in `items`, column) of every version of each item."""
        return expand(np.searchsorted(self.items, items), np.searchsorted(self.items, items, "right"))

    def in_effect(self, times: Ints, own: Ints) -> tuple[Bools, Ints]:
        """What each time may rank, shape (times, columns), and the column of each time's own item, or -1."""
        eligible = (self.since <= times[:, None]) & (times[:, None] < self.until)
        asked, at = self.versions(own)
        valid = eligible[asked, at]
        columns = np.full(len(times), -1, np.int64)
        columns[asked[valid]] = at[valid]
        return eligible, columns


def _blocks(rows: Ints, width: int) -> Iterator[Ints]:
    step = max(1, _BLOCK_SCORES // max(1, width))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
