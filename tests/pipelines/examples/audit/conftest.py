"""A tiny shop with every hard case in it, and what the pipeline builds of it."""

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config, parse_config

DAY = 86_400_000_000
HOUR, MINUTE = DAY // 24, DAY // 1440
START = 20_000 * DAY
DAYS = 12
USERS, ITEMS = 12, 9


def tiny_config(**changes: Any) -> Config:
    """Twelve days, every kind of statistic, a multi-category; sections may be changed."""
    raw: dict[str, Any] = {
        "name": "tiny",
        "seed": 5,
        "source": {
            "interactions": [
                {
                    "path": "log",
                    "user_id": "u",
                    "item_id": "i",
                    "event_time": {"column": "t"},
                    "available_time": {"column": "a"},
                }
            ],
            "items": [
                {
                    "path": "items",
                    "id": "i",
                    "columns": {
                        "category": {"kind": "category"},
                        "tags": {"kind": "categories"},
                        "price": {"kind": "number"},
                        "look": {"kind": "vector"},
                    },
                }
            ],
            "users": [{"path": "users", "id": "u", "columns": {"country": {"kind": "category"}}}],
        },
        "labels": {"rule": "impressions", "positive_actions": ["click"], "label_window": "30m"},
        "split": {"validation_start": "2024-10-11", "test_start": "2024-10-13"},
        "catalogue": {"rows": 12, "clocks": 2},
        "preferences": {
            "windows": ["1d", "3d", "lifetime"],
            "entities": ["user", "item", "item.tags", "user*item", "user*item.tags"],
            "statistics": [
                {"name": "click", "kind": "count", "actions": ["click"]},
                {"name": "click", "kind": "rate", "actions": ["click"], "of_actions": ["impression"]},
                {"name": "size", "kind": "mean", "min_weight": 1.5, "prior_strength": 2},
                {"name": "size", "kind": "sum"},
                {"name": "click", "kind": "days_since", "actions": ["click"]},
                {"name": "item", "kind": "distinct"},
                {"name": "click", "kind": "decayed", "actions": ["click"], "half_life": "1d"},
            ],
            "recent": ["category", "tags", "item_id"],
            "recent_length": 4,
        },
        "audit": {"sample": 45},
    }
    for section, values in changes.items():
        raw[section] = {**raw.get(section, {}), **values}
    return parse_config(raw)


def tiny_log(seed: int = 0) -> list[dict[str, Any]]:
    """A few hundred events: late ones, ties, some at a boundary to the microsecond, some just outside a window."""
    rng = random.Random(seed)
    events: dict[tuple[Any, ...], dict[str, Any]] = {}

    def add(user: str, item: str, time: int, action: str, weight: float) -> None:
        late = rng.random()
        delay = 0 if late < 0.3 else rng.choice([MINUTE, HOUR, 5 * HOUR, 30 * HOUR]) if late < 0.9 else 4 * DAY
        key = (user, item, time, action)
        events[key] = {
            "user_id": user,
            "item_id": item,
            "event_time": time,
            "available_time": time + delay,
            "action": action,
            "weight": weight,
        }

    for number in range(260):
        # Users and items keep arriving, so that some are cold.
        day = rng.randrange(DAYS)
        user = f"u{rng.randrange(3 + day * (USERS - 3) // DAYS)}"
        item = f"i{rng.randrange(3 + day * (ITEMS - 3) // DAYS)}"
        time = START + day * DAY + rng.choice([0, 0, 2 * HOUR, 2 * HOUR - 1, rng.randrange(DAY)])
        add(user, item, time, "impression", 1.0)
        if rng.random() < 0.5:
            add(
                user,
                item,
                time + rng.choice([0, 1, 10 * MINUTE, 30 * MINUTE, 30 * MINUTE + 1]),
                "click",
                number % 5 / 2,
            )
    return sorted(events.values(), key=lambda e: (e["event_time"], e["user_id"], e["item_id"], e["action"]))


def tiny_items(seed: int = 0) -> list[dict[str, Any]]:
    """Each item in up to three versions; one created before its first version, one that says nothing of itself."""
    rng = random.Random(seed)
    rows = []
    for number in range(ITEMS):
        created = START + max(0, number - 3) * 2 * DAY
        for version in range(3):
            rows.append(
                {
                    "item_id": f"i{number}",
                    "valid_from": created + version * 3 * DAY + (HOUR if version == 0 and number == 2 else 0),
                    "created_at": None if number == 4 else created,
                    "title": f"item {number}",
                    "category": rng.choice(["a", "b", "c", None]),
                    "tags": rng.choice([None, ["x"], ["x", "y"], ["y", "z", "x"]]),
                    "price": rng.choice([None, 1.5, 2.5]),
                    "look": rng.choice([None, [0.5, float(version)]]),
                }
            )
    return rows


def tiny_users(seed: int = 0) -> list[dict[str, Any]]:
    """Each user but the first in two versions."""
    rng = random.Random(seed)
    return [
        {
            "user_id": f"u{number}",
            "valid_from": START + version * 5 * DAY,
            "created_at": START,
            "title": None,
            "country": rng.choice(["n", "s", None]),
        }
        for number in range(1, USERS)
        for version in range(2)
    ]


@pytest.fixture(scope="session")
def make_config() -> Any:
    """`tiny_config`, as a fixture."""
    return tiny_config


@dataclass(frozen=True)
class World:
    """Tables, configuration, fitted state, and what was built of them."""

    tables: Any
    config: Config
    fitted: Any
    built: Any


@pytest.fixture(scope="module", autouse=True)
def small_plans(one_task) -> None:
    """Every module here works on a few hundred rows."""


@pytest.fixture(scope="session")
def tables(spark):
    """The clean tables of the tiny shop."""
    from pipelines.examples.tables import Tables
    from schemas.content import content_table
    from schemas.interactions import INTERACTIONS
    from schemas.to_spark import spark_schema

    config = tiny_config()

    def frame(rows: list[dict[str, Any]], contract: Any) -> Any:
        made = spark.createDataFrame([tuple(row[n] for n in contract.names) for row in rows], spark_schema(contract))
        return made.cache()

    return Tables(
        frame(tiny_log(), INTERACTIONS),
        frame(tiny_items(), content_table("item", config.content_kinds("item"))),
        frame(tiny_users(), content_table("user", config.content_kinds("user"))),
    )


@pytest.fixture(scope="session")
def publish(spark, tmp_path_factory):
    """Built frames -> the same, written and read back, so that they are computed once."""
    from pipelines.examples.audit.metamorphic import Published

    def write(built: Any) -> Published:
        folder: Path = tmp_path_factory.mktemp("built")
        frames = {}
        for name in ("examples", "candidates", "exists", *(("catalogue",) if built.catalogue is not None else ())):
            getattr(built, name).write.parquet(str(folder / name))
            frames[name] = spark.read.parquet(str(folder / name))
        return Published(**frames)

    return write


@pytest.fixture(scope="session")
def shop(tables) -> World:
    """The tiny shop with its fitted state; nothing is built of it yet."""
    from pipelines.examples.fit import fit

    config = tiny_config()
    return World(tables, config, fit(tables.interactions, config), None)


@pytest.fixture(scope="session")
def world(shop, building, publish) -> World:
    """What an honest build makes of the tiny shop in snapshot accuracy."""
    with building() as build:
        return replace(shop, built=publish(build(shop.tables, shop.config, shop.fitted)))
