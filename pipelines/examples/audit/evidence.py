"""What the plain recomputation reads: a seeded sample of rows, and the part of the log and catalogue they rest on.

Only rows of the sampled users, items and categories leave the cluster, so that a large log can be audited too.
"""

from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.examples.audit.log import Past
from pipelines.examples.tables import Tables
from schemas.examples import SPLITS
from schemas.interactions import INTERACTIONS

_RESOLUTION = 2**32
_ORDER = "_order"


def sample_examples(examples: DataFrame, count: int, seed: int) -> list[dict[str, Any]]:
    """About `count` examples, evenly over the splits: seeded, and each split's earliest and latest beside them."""
    each = -(-count // len(SPLITS))
    time, split = F.col("event_time"), F.col("split")
    spans = examples.groupBy("split").agg(
        F.count("*").alias("n"), F.min(time).alias("first"), F.max(time).alias("last")
    )
    order = F.pmod(F.xxhash64(F.lit(seed), "example_id"), F.lit(_RESOLUTION))
    chosen = F.lit(False)
    for row in spans.collect():
        # Three times as many as needed, so that chance never leaves fewer: the first of them are taken below.
        share = int(min(1.0, 3 * each / row["n"]) * _RESOLUTION)
        chosen = chosen | ((split == row["split"]) & ((order < share) | time.isin(row["first"], row["last"])))
    rows = sorted(rows_of(examples.where(chosen).withColumn(_ORDER, order)), key=lambda r: (r[_ORDER], r["example_id"]))
    kept: dict[str, dict[str, Any]] = {}
    for name in SPLITS:
        mine = [row for row in rows if row["split"] == name]
        by_time = sorted(mine, key=lambda row: int(row["event_time"]))
        kept |= {row["example_id"]: row for row in (*mine[:each], *by_time[:1], *by_time[-1:])}
    return list(kept.values())


def sample_training(examples: DataFrame, columns: list[str], share: float, seed: int) -> pa.Table:
    """A share (all, where above 1) of the mature training examples by keyed hash, in its order: `label`, `columns`."""
    train = examples.where(F.col("split") == "train")
    order = F.pmod(F.xxhash64(F.lit(f"{seed}:probe"), "example_id"), F.lit(_RESOLUTION))
    chosen = train.where(order < int(min(1.0, share) * _RESOLUTION)).select(
        "example_id", order.alias(_ORDER), "label", *columns
    )
    ordered = arrow(chosen).sort_by([(_ORDER, "ascending"), ("example_id", "ascending")])
    return ordered.drop_columns(["example_id", _ORDER])


def sample_candidates(candidates: DataFrame, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` candidates, seeded."""
    key = ("as_of", "known_by", "item_id", "in_effect_from")
    return rows_of(candidates.orderBy(F.xxhash64(F.lit(seed), *key), *key).limit(count))


def gather(rows: list[dict[str, Any]], tables: Tables, config: Config) -> Past:
    """Everything in the clean tables that the sampled rows rest on."""
    users = {row["user_id"] for row in rows if "user_id" in row}
    sampled = {row["item_id"] for row in rows}
    related = sampled | _sharing_a_category(tables.items, sampled, config)
    user_log = arrow(only(tables.interactions, "user_id", users).select(*INTERACTIONS.names))
    item_log = arrow(only(tables.interactions, "item_id", related).select(*INTERACTIONS.names))
    shown = related | set(user_log.column("item_id").unique().to_pylist())
    return Past(
        user_log=user_log,
        item_log=item_log,
        items=arrow(only(tables.items, "item_id", shown)),
        users=arrow(only(tables.users, "user_id", users)),
    )


def _sharing_a_category(items: DataFrame, sampled: set[str], config: Config) -> set[str]:
    """Items that ever had a value, in a column whose statistics are asked for, that a sampled item ever had."""
    columns = [entity.removeprefix("item.") for entity in config.preferences.entities if entity.startswith("item.")]
    if not columns:
        return set()
    kinds = config.content_kinds("item")
    values = {c: F.col(c) if kinds[c] == "categories" else F.array(c) for c in columns}
    listed = items.select("item_id", *[F.array_compact(values[c]).alias(c) for c in columns])
    own = rows_of(only(listed, "item_id", sampled))
    shared: set[str] = set()
    for column in columns:
        wanted = {value for row in own for value in row[column] or ()}
        having = only(listed.select("item_id", F.explode(column).alias("value")), "value", wanted)
        shared |= {row["item_id"] for row in rows_of(having.select("item_id").distinct())}
    return shared


def only(frame: DataFrame, column: str, values: set[str]) -> DataFrame:
    """Rows whose `column` is among `values`."""
    wanted = pa.table({column: pa.array(sorted(values), pa.string())})
    return frame.join(F.broadcast(frame.sparkSession.createDataFrame(wanted)), on=column, how="left_semi")


def arrow(frame: DataFrame) -> pa.Table:
    """The rows on the driver, in columns."""
    return frame.toArrow()


def rows_of(frame: DataFrame) -> list[dict[str, Any]]:
    """The rows on the driver."""
    rows: list[dict[str, Any]] = frame.toArrow().to_pylist()
    return rows
