"""A small evaluated world, made by hand, that several jobs are tried on."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import parse_config
from pipelines.features import feature_set
from pipelines.storage import Workspace, arrow_schema, write_arrow
from schemas.content import content_table
from schemas.examples import EXISTS, candidate_table, example_table
from schemas.interactions import INTERACTIONS
from schemas.manifest import Manifest

FOREVER = 2**63 - 1
CONFIG = parse_config(
    {
        "name": "tiny",
        "seed": 1,
        "source": {
            "interactions": [{"path": "x", "user_id": "u", "item_id": "i", "event_time": {"column": "t"}}],
            "items": [{"path": "y", "id": "i", "columns": {"genre": {"kind": "category"}}}],
            "truth": {"users": "users.parquet", "items": "items.parquet"},
        },
        "labels": {"rule": "impressions", "positive_actions": ["click"]},
        "evaluation": {"ks": [1, 2], "bootstrap": 10},
    }
)
FEATURES = feature_set(CONFIG)


class Knowing:
    """Even users want even items; one that is turned thinks the opposite."""

    scale, bias = 2.0, 0.0

    def __init__(self, *, turned=False) -> None:
        self.turned = turned

    def columns(self, side) -> dict[str, str]:
        return {"item_genre": "string"} if side == "item" else {}

    def click_probabilities(self, scores) -> np.ndarray:
        return 1 / (1 + np.exp(-scores))

    def embed(self, side, table, *, missing_preference=False) -> np.ndarray:
        parity = np.array([int(name[1:]) % 2 for name in table[f"{side}_id"].to_pylist()], int)
        if self.turned and side == "user":
            parity = 1 - parity
        return np.zeros((len(parity), 2), np.float32) if missing_preference else np.eye(2, dtype=np.float32)[parity]


def rows_of(contract, rows) -> pa.Table:
    """Rows with the columns that matter; the rest is null or, where it may not be, a plain value."""
    plain = {"string": "", "int64": 0, "float32": 1.0, "float64": 1.0, "bool": False}
    filled = [{c.name: row.get(c.name, None if c.nullable else plain[c.type]) for c in contract} for row in rows]
    return pa.Table.from_pylist(filled, schema=arrow_schema(contract))


def publish(workspace, dataset, tables, as_of=None, **told) -> None:
    key = dataset * 4
    path = workspace.stage(dataset, key)
    entries = {
        name: write_arrow(path, name, rows_of(contract, rows), contract) for name, (contract, rows) in tables.items()
    }
    workspace.publish(path, Manifest(dataset=dataset, tables=entries, seed=1, key=key, as_of=as_of or {}, **told))


@pytest.fixture
def config():
    """The world's configuration."""
    return CONFIG


@pytest.fixture
def knowing() -> type[Knowing]:
    """A scorer that knows the answer."""
    return Knowing


CLICKS = (("u1", "i1", 10), ("u2", "i2", 20))
ASKED = tuple(
    (split, user, item, t, label)
    for split, t in (("validation", 150), ("test", 250))
    for user, item, label in (("u1", "i3", 1), ("u2", "i4", 1), ("u1", "i4", 0), ("u2", "i1", 0))
)


@pytest.fixture
def workspace(make_world) -> Workspace:
    """Two users who clicked on one item each, and two examples of each in both later splits."""
    return make_world()


@pytest.fixture
def make_world(tmp_path):
    """(clicks, examples) -> a workspace with what evaluation reads."""
    return lambda clicks=CLICKS, asked=ASKED: world(tmp_path, clicks, asked)


def world(tmp_path, clicks, asked) -> Workspace:
    workspace = Workspace.open(str(tmp_path / "out"))
    log = [
        {
            "user_id": u,
            "item_id": i,
            "event_time": t,
            "available_time": t,
            "action": action,
        }
        for events, action in ((clicks, "click"), ([("u1", "i2", 30)], "impression"))
        for u, i, t in events
    ]
    items = [{"item_id": f"i{n}", "valid_from": 0, "genre": "ab"[n % 2]} for n in range(1, 5)]
    publish(
        workspace,
        "clean",
        {"interactions": (INTERACTIONS, log), "items": (content_table("item", CONFIG.content_kinds("item")), items)},
    )
    examples = [
        {
            "example_id": f"{user}{item}{t}",
            "user_id": user,
            "item_id": item,
            "event_time": t,
            "as_of": t - 50,
            "known_by": t - 40,
            "label": float(label),
            "split": split,
        }
        for split, user, item, t, label in asked
    ]
    candidates = [
        {"as_of": clock, "known_by": clock + 10, "item_id": f"i{n}", "in_effect_to": FOREVER, "item_genre": "ab"[n % 2]}
        for clock in (100, 200)
        for n in range(1, 5)
    ]
    publish(
        workspace,
        "examples",
        {
            "examples": (example_table(FEATURES), examples),
            "candidates": (candidate_table(FEATURES.item), candidates),
            "exists": (EXISTS, [{"item_id": f"i{n}"} for n in range(1, 5)]),
        },
        as_of={"validation_start": 100},
    )
    publish(workspace, "records", {})
    notes = {"name": "tiny", "version": "2", "run_id": "r"}
    publish(workspace, "model", {}, facts={"audit": "passed"}, notes=notes)
    return workspace
