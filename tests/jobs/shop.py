"""A small shop with all that training, evaluation and promotion read, made by hand without Spark.

Even users click on items of genre a, odd ones on b; what they clicked lately says so. A fifth of the items is new.
"""

import hashlib
from pathlib import Path

import pyarrow as pa
import yaml

from pipelines.config import load_config
from pipelines.content.encoder import Encoder
from pipelines.features import feature_set
from pipelines.records.encode import encode_batch
from pipelines.records.shard_file import shard_name, write_shard
from pipelines.storage import Workspace, arrow_schema, write_arrow, write_json
from schemas.content import content_table
from schemas.examples import EXISTS, SPLITS, candidate_table, example_table
from schemas.fitted import EncoderState, InputSpec, Normaliser
from schemas.interactions import INTERACTIONS
from schemas.manifest import Manifest, TableEntry
from schemas.records import record_columns
from tests.jobs.conftest import FOREVER, rows_of

USERS, ITEMS, NEW = 40, 20, 16
"""Items from the NEW-th on had no event in the training period."""
STARTS = {"train": 1_000, "validation": 2_000, "test": 3_000}

RAW = {
    "name": "shop",
    "seed": 1,
    "source": {
        "interactions": [{"path": "x", "user_id": "u", "item_id": "i", "event_time": {"column": "t"}}],
        "items": [{"path": "y", "id": "i", "columns": {"genre": {"kind": "category"}, "look": {"kind": "vector"}}}],
    },
    "labels": {"rule": "impressions", "positive_actions": ["click"]},
    "preferences": {"windows": ["lifetime"], "recent": ["genre"]},
    "evaluation": {"ks": [1, 5], "bootstrap": 100},
    "model": {
        "embedding_dim": 4,
        "content_units": [8],
        "preference_units": [8],
        "tower_units": [8, 4],
        "preference_dropout": 0,
    },
    "training": {"epochs": 3, "batch_size": 32, "learning_rate": 0.05, "table_learning_rate": 0.2},
    "promotion": {"served_sample": 50},
}

STATE = EncoderState(
    inputs=(
        InputSpec(name="user_recent_genre", side="user", part="preference", kind="ids", length=3, table="genre",
                  table_size=4, columns=("user_recent_genre",), entity="user"),
        InputSpec(name="user_statistics", side="user", part="preference", kind="floats", length=1,
                  columns=("user_event_count_lifetime",), entity="user"),
        InputSpec(name="item_genre", side="item", part="content", kind="ids", length=1, table="genre", table_size=4,
                  columns=("item_genre",)),
        InputSpec(name="item_look", side="item", part="content", kind="floats", length=2, columns=("item_look",)),
        InputSpec(name="item_statistics", side="item", part="preference", kind="floats", length=1,
                  columns=("item_event_count_lifetime",), entity="item"),
    ),
    vocabularies={"genre": ("a", "b")},
    normalisers={
        f"{side}_event_count_lifetime": Normaliser(transform="log1p", mean=1.0, std=1.0) for side in ("user", "item")
    },
    text_buckets=8,
    max_words=2,
    max_values=3,
)  # fmt: skip


def write_config(path: Path, **sections) -> Path:
    path.write_text(yaml.safe_dump({**RAW, **sections}))
    return path


def make_shop(config_file: Path, out: Path) -> Workspace:
    """The workspace with clean, examples, audit and records."""
    config = load_config([config_file])
    features, workspace = feature_set(config), Workspace.open(str(out))
    rows = examples()
    clean = {
        "interactions": (INTERACTIONS, log()),
        "items": (content_table("item", config.content_kinds("item")), [
            {"item_id": f"i{n}", "valid_from": 0, "genre": genre(n), "look": look(n)} for n in range(ITEMS)
        ]),
    }  # fmt: skip
    made = publish(workspace, "clean", clean, notes={"raw_files": "f" * 64})
    parents = {"clean": made.manifest.content_digest}
    candidates = [
        {"as_of": STARTS[split], "known_by": STARTS[split], "in_effect_to": FOREVER, **item_features(n)}
        for split in ("validation", "test")
        for n in range(ITEMS)
    ]
    built = {
        "examples": (example_table(features), rows),
        "candidates": (candidate_table(features.item), candidates),
        "exists": (EXISTS, [{"item_id": f"i{n}"} for n in range(ITEMS)]),
    }
    times = {"validation_start": STARTS["validation"], "test_start": STARTS["test"]}
    made = publish(workspace, "examples", built, parents=parents, as_of=times)
    parents["examples"] = made.manifest.content_digest
    served = {"name": "features as served: user", "kind": "served", "checked": 9, "failed": 0, "passed": True}
    audit = {"passed": True, "checks": [served], "skipped": []}
    made = publish(workspace, "audit", {}, parents=parents, facts={"audit": audit})
    parents["audit"] = made.manifest.content_digest
    publish_records(workspace, rows, example_table(features), parents, times)
    return workspace


def publish(workspace, dataset, tables, **told):
    path = workspace.stage(dataset, dataset * 8)
    entries = {
        name: write_arrow(path, name, rows_of(contract, rows), contract) for name, (contract, rows) in tables.items()
    }
    return workspace.publish(path, Manifest(dataset=dataset, tables=entries, seed=1, key=dataset * 8, **told))


def publish_records(workspace, rows, contract, parents, times) -> None:
    path = workspace.stage("records", "records" * 8)
    batch = pa.Table.from_pylist(rows_of(contract, rows).to_pylist(), schema=arrow_schema(contract))
    placed = pa.Table.from_batches([encode_batch(batch.combine_chunks().to_batches()[0], Encoder(STATE), 1, 1)])
    placed = placed.sort_by([("order_key", "ascending"), ("example_id", "ascending")])
    tables = {"encoder": write_json(path, "encoder.json", STATE.model_dump(mode="json"))}
    for place, split in enumerate(SPLITS):
        mine = placed.filter(pa.compute.equal(placed["shard"], place))
        shard = write_shard(mine.to_batches(), path, shard_name(split, 0, ""), (0, FOREVER)).shard
        tables[split] = TableEntry(format="tfrecord", columns=record_columns(STATE.inputs), shards=(shard,))
    facts, made = {"audit": {"passed": True}}, "records" * 8
    workspace.publish(
        path,
        Manifest(dataset="records", tables=tables, seed=1, key=made, parents=parents, facts=facts, as_of=times),
    )


def genre(item: int) -> str:
    return "ab"[item // 2 % 2]


def look(item: int) -> list[float] | None:
    return None if item % 7 == 0 else [item % 3 / 3, 1.0]


def item_features(item: int) -> dict:
    known = None if item >= NEW else 3.0 + item % 3
    return {
        "item_id": f"i{item}",
        "item_genre": genre(item),
        "item_event_count_lifetime": known,
        "cold_item": item >= NEW,
    }


def log() -> list[dict]:
    """One old click of each user on an item of its genre."""
    return [
        {
            "user_id": f"u{u}",
            "item_id": f"i{2 * (u % 2)}",
            "event_time": 10 + u,
            "available_time": 10 + u,
            "action": "click",
        }
        for u in range(USERS)
    ]


def examples() -> list[dict]:
    """Every user is shown items of both genres in every split, new ones in the later splits alone."""
    found = []
    for split, start in STARTS.items():
        for u in range(USERS):
            shown = range(u % 3, NEW, 3) if split == "train" else range(u % 5, ITEMS, 5)
            for place, item in enumerate(shown):
                wanted = "ab"[u % 2]
                found.append(
                    {
                        "example_id": hashlib.blake2b(f"{split}/{u}/{item}".encode(), digest_size=16).hexdigest(),
                        "user_id": f"u{u}",
                        "event_time": start + 10 + place,
                        "as_of": start,
                        "known_by": start,
                        "label": float(genre(item) == wanted),
                        "split": split,
                        "user_recent_genre": [wanted],
                        "user_event_count_lifetime": 1.0,
                        **item_features(item),
                    }
                )
    return found
