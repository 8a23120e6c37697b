"""Who is shown what, who clicks, and when the log gets to know: times in ms, every event's key distinct."""

from dataclasses import dataclass

import numpy as np

from pipelines.config import DemoOptions
from pipelines.demo.world import MS_PER_DAY, Floats, Ints, Items, Users, generator, start_ms
from pipelines.errors import ConfigError

CLICK_SHARE = 0.11
"""Clicks per impression, over the whole log."""
MS_PER_HOUR = 3_600_000
POLICY = {"taste": 0.35, "random": 0.25, "recent": 0.2, "popular": 0.2}
"""Why an item is shown. Only the first knows the user, so that the log is not a mirror of what made it."""
TASTE_CANDIDATES = 8
RECENT_SHARE = 0.04
"""Mean age of a `recent` pick, in ranks of arrival, as a share of all."""


@dataclass(frozen=True)
class Log:
    """Events: indices of user and item, times in ms, click or impression. Impressions come first."""

    user: Ints
    item: Ints
    time: Ints
    seen: Ints
    click: Ints
    """1 click, 0 impression."""

    def __len__(self) -> int:
        return len(self.user)


def make_log(users: Users, items: Items, options: DemoOptions, seed: int) -> tuple[Log, float]:
    """The events, and the bias that the true logit needs beside the inner product of the vectors."""
    time = _impression_times(options, seed)
    user = _show_users(users, time, seed)
    item = _show_items(users, items, user, time, seed)
    logit = true_scores(users, items, user, item)
    bias = _bias(logit)
    rng = generator(seed, "clicks")
    clicked = np.flatnonzero(rng.random(len(time)) < _sigmoid(logit + bias))
    delay = 1000 + np.minimum(np.exp(rng.normal(np.log(15_000), 1.0, len(clicked))), 598_000).astype(np.int64)
    click_user, click_item = user[clicked], item[clicked]
    click_time = _apart(click_user, click_item, time[clicked] + delay)
    user, item = np.concatenate([user, click_user]), np.concatenate([item, click_item])
    all_times = np.concatenate([time, click_time])
    click = np.repeat([0, 1], [len(time), len(click_time)])
    return Log(user, item, all_times, _seen(all_times, options, seed), click), bias


def true_scores(users: Users, items: Items, user: Ints, item: Ints) -> Floats:
    """Inner products of the planted vectors, for pairs of indices (any shape)."""
    scores: Floats = np.einsum("...d,...d->...", users.vector[user], items.vector[item])
    return scores


def _impression_times(options: DemoOptions, seed: int) -> Ints:
    """Sorted, all distinct; busier at weekends and in the evening."""
    rng, n = generator(seed, "times"), options.impressions
    by_day = 1 + 0.3 * (np.arange(options.days) % 7 >= 5)
    by_hour = 1.2 - np.cos((np.arange(24) - 8) / 24 * 2 * np.pi)
    day = rng.choice(options.days, n, p=by_day / by_day.sum())
    hour = rng.choice(24, n, p=by_hour / by_hour.sum())
    time = start_ms(options) + day * MS_PER_DAY + hour * MS_PER_HOUR + rng.integers(0, MS_PER_HOUR, n)
    rank = np.arange(n)
    return np.maximum.accumulate(np.sort(time) - rank) + rank


def _show_users(users: Users, time: Ints, seed: int) -> Ints:
    """Who is there, by activity; a fifth of the attention is the newcomers'."""
    rng = generator(seed, "audience")
    there = np.searchsorted(users.joined_ms, time, side="right")
    newcomer = rng.random(len(time)) < 0.2
    return np.where(newcomer, _recent(there, len(users.id), rng), _weighted(there, users.activity, rng))


def _show_items(users: Users, items: Items, user: Ints, time: Ints, seed: int) -> Ints:
    """What is listed, by the policies' shares."""
    rng = generator(seed, "policy")
    there = np.searchsorted(items.listed_ms, time, side="right")
    candidates = (rng.random((len(time), TASTE_CANDIDATES)) * there[:, None]).astype(np.int64)
    guess = true_scores(users, items, user[:, None], candidates) + rng.gumbel(size=candidates.shape)
    choices = {
        "taste": candidates[np.arange(len(time)), guess.argmax(axis=1)],
        "random": (rng.random(len(time)) * there).astype(np.int64),
        "recent": _recent(there, len(items.id), rng),
        "popular": _weighted(there, items.appeal, rng),
    }
    policy = rng.choice(len(POLICY), len(time), p=list(POLICY.values()))
    return np.choose(policy, [choices[name] for name in POLICY])


def _recent(there: Ints, n: int, rng: np.random.Generator) -> Ints:
    """One of the first `there`, mostly of the last of them."""
    back = rng.exponential(max(RECENT_SHARE * n, 1.0), len(there)).astype(np.int64)
    return there - 1 - back % there


def _weighted(there: Ints, weights: Floats, rng: np.random.Generator) -> Ints:
    """One of the first `there`, by weight."""
    total = np.cumsum(weights)
    drawn = np.searchsorted(total, rng.random(len(there)) * total[there - 1], side="right")
    return np.minimum(drawn, there - 1)


def _bias(logit: Floats) -> float:
    """The constant that makes the mean click probability CLICK_SHARE, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _sigmoid(logit + middle).mean() > CLICK_SHARE else (middle, high)
    return round((low + high) / 2, 4)


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def _apart(user: Ints, item: Ints, time: Ints) -> Ints:
    """`time`, moved by milliseconds until no (user, item, time) occurs twice."""
    while True:
        order = np.lexsort((time, item, user))
        same = [np.diff(values[order]) == 0 for values in (user, item, time)]
        again = order[1:][np.logical_and.reduce(same)]
        if not len(again):
            return time
        time = time.copy()
        time[again] += 1


def _seen(time: Ints, options: DemoOptions, seed: int) -> Ints:
    """Within a minute, but for exactly `late` events: one hour to three days."""
    if options.late > len(time):
        raise ConfigError(f"demo.late must be at most the number of events, {len(time)}, got {options.late}; lower it")
    rng = generator(seed, "arrival")
    delay = rng.integers(50, 60_000, len(time))
    late = rng.choice(len(time), options.late, replace=False)
    delay[late] = (MS_PER_HOUR * 72 ** rng.random(options.late)).astype(np.int64)
    return time + delay
