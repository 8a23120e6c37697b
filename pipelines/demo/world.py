"""The shop's users and items: latent tastes, and the content that tells most of them.

Who is shown what, and who clicks, is left to `log`.
"""

import datetime as dt
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from pipelines.config import DemoOptions
from pipelines.demo.names import CATEGORIES, COUNTRIES, STYLES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Strings = npt.NDArray[np.str_]

MS_PER_DAY = 86_400_000
DIMENSION = 8
TASTE_STRENGTH = 5.0
QUALITY_STD = 0.5

TAGS = tuple(tag for tags in CATEGORIES.values() for tag in tags)
HOME = np.repeat(np.arange(len(CATEGORIES)), 3)
"""The category that each tag belongs to."""


@dataclass(frozen=True)
class Items:
    """Items in order of listing. Indices point into `names`; `vector` carries everything the true logit needs."""

    id: Strings
    listed_ms: Ints
    category: Ints
    tags: tuple[tuple[int, ...], ...]
    style: Ints
    price: Floats
    appeal: Floats
    """Relative frequency at which popular items are shown."""
    vector: Floats
    """(items, DIMENSION + 2): direction, price, quality. Content does not tell the last."""


@dataclass(frozen=True)
class Users:
    """Users in order of joining."""

    id: Strings
    joined_ms: Ints
    country: Ints
    interests: tuple[tuple[int, ...], ...]
    age: Ints
    activity: Floats
    vector: Floats
    """(users, DIMENSION + 2): taste, price sensitivity, 1. Content tells most of the first two."""


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers for one purpose: a change elsewhere does not move them."""
    return np.random.default_rng(int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little"))


def start_ms(options: DemoOptions) -> int:
    """The first moment of the demo, UTC."""
    return int(dt.datetime.combine(options.start, dt.time(), dt.UTC).timestamp()) * 1000


def make_items(options: DemoOptions, seed: int) -> Items:
    """Items with planted directions: category, tags and (in the text alone) style."""
    rng, n = generator(seed, "items"), options.items
    categories, tags, styles = topics(seed)
    category = rng.choice(len(CATEGORIES), n, p=_shares(len(CATEGORIES)))
    affinity = 4.0 * (category[:, None] == HOME) + 2.0 * categories[category] @ tags.T
    chosen = _top(affinity, rng.integers(2, 5, n), rng)
    style = rng.integers(0, len(STYLES), n)
    mean_tag = np.stack([tags[list(own)].mean(axis=0) for own in chosen])
    direction = unit(0.6 * categories[category] + 0.6 * unit(mean_tag) + 0.4 * styles[style])
    price_level = rng.normal(0, 0.5, len(CATEGORIES))[category] + rng.normal(0, 0.7, n)
    quality = rng.normal(0, QUALITY_STD, n)
    vector = np.column_stack([direction, price_level, quality])
    return Items(
        id=_ids("i", n, rng),
        listed_ms=arrivals(n, options.new_item_share, options, rng),
        category=category,
        tags=chosen,
        style=style,
        price=np.exp(3.0 + price_level),
        appeal=np.exp(0.6 * quality / QUALITY_STD + rng.normal(0, 0.7, n)),
        vector=vector.round(4),
    )


def make_users(options: DemoOptions, seed: int) -> Users:
    """Users whose tastes follow interests, country and age, and a part of their own."""
    rng, n = generator(seed, "users"), options.users
    categories, _, _ = topics(seed)
    popular = np.broadcast_to(np.log(_shares(len(CATEGORIES))), (n, len(CATEGORIES)))
    interests = _top(popular, rng.integers(1, 4, n), rng)
    country = rng.integers(0, len(COUNTRIES), n)
    age = rng.integers(16, 81, n)
    years = (age - 48) / 19
    by_country, by_age = unit(rng.normal(size=(len(COUNTRIES), DIMENSION))), unit(rng.normal(size=(1, DIMENSION)))
    interest = unit(np.stack([categories[list(own)].mean(axis=0) for own in interests]))
    own = unit(rng.normal(size=(n, DIMENSION)))
    taste = unit(interest + 0.3 * by_country[country] + 0.2 * years[:, None] * by_age + 0.45 * own)
    sensitivity = -0.3 + 0.3 * years + rng.normal(0, 0.2, n)
    vector = np.column_stack([TASTE_STRENGTH * taste, sensitivity, np.ones(n)])
    return Users(
        id=_ids("u", n, rng),
        joined_ms=arrivals(n, options.new_user_share, options, rng),
        country=country,
        interests=interests,
        age=age,
        activity=np.exp(rng.normal(0, 0.8, n)),
        vector=vector.round(4),
    )


def topics(seed: int) -> tuple[Floats, Floats, Floats]:
    """Unit directions of categories, tags (near their category's) and styles."""
    rng = generator(seed, "topics")
    categories = unit(rng.normal(size=(len(CATEGORIES), DIMENSION)))
    tags = unit(0.7 * categories[HOME] + 0.7 * unit(rng.normal(size=(len(TAGS), DIMENSION))))
    return categories, tags, unit(rng.normal(size=(len(STYLES), DIMENSION)))


def arrivals(n: int, new_share: float, options: DemoOptions, rng: np.random.Generator) -> Ints:
    """Sorted whole seconds, in ms: the new spread evenly over the period, the others in the year before it."""
    start = start_ms(options)
    new = min(round(n * new_share), n - 1)
    period = options.days * MS_PER_DAY
    during = start + (np.arange(new) + rng.random(new)) / max(new, 1) * period
    before = start - 1000 - rng.random(n - new) * 365 * MS_PER_DAY
    return np.sort(np.concatenate([before, during])).astype(np.int64) // 1000 * 1000


def unit(vectors: Floats) -> Floats:
    """Rows of length 1."""
    lengths: Floats = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return vectors / lengths


def _shares(n: int) -> Floats:
    """Decreasing shares that sum to 1: some categories are larger than others."""
    weights: Floats = 1 / np.arange(8.0, n + 8.0)
    return weights / np.sum(weights)


def _top(affinity: Floats, counts: Ints, rng: np.random.Generator) -> tuple[tuple[int, ...], ...]:
    """Per row `counts` distinct columns, drawn without replacement by softmax(affinity)."""
    order = np.argsort(-(affinity + rng.gumbel(size=affinity.shape)), axis=1, kind="stable")
    return tuple(tuple(row[:count].tolist()) for row, count in zip(order, counts, strict=True))


def _ids(prefix: str, n: int, rng: np.random.Generator) -> Strings:
    """Ids whose numbers tell nothing of the order of arrival."""
    return np.array([f"{prefix}{number:05d}" for number in rng.permutation(n)])
