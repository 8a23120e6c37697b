"""Each side's features at its distinct moments: content as of a version, behaviour as of a clock. [spark]

A moment is (SIDE_id, _SIDE_version, as_of, known_by). Examples, candidates and serving ask for moments and join what is
found, so that a feature is made once however many rows carry it, and cannot differ between training and serving.
"""

from typing import Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.content.as_of import attach_content
from pipelines.examples.labels import positive_condition
from pipelines.examples.splits import in_training_period
from pipelines.examples.tables import Tables
from pipelines.preferences.clock import CLOCK
from pipelines.preferences.entities import content_column, key_column, keyed_events, with_pair
from pipelines.preferences.join import attach_recent, attach_statistics
from schemas.content import Side
from schemas.examples import PROVENANCE
from schemas.fitted import Cuts, Fitted
from schemas.preferences import CROSS

Pair = Literal["pair"]
NO_VERSION = -(2**63 - 1)
"""The version of what nothing has been said of yet: all its content is missing."""


def with_version(rows: DataFrame, versions: DataFrame, side: Side) -> DataFrame:
    """Adds `_SIDE_version`: the valid_from of the content in effect at event_time, else NO_VERSION."""
    name = f"_{side}_version"
    found = attach_content(rows, versions, id=f"{side}_id", time="event_time", columns={"valid_from": name})
    return found.withColumn(name, F.coalesce(name, F.lit(NO_VERSION)))


def moments(rows: DataFrame, side: Side | Pair) -> DataFrame:
    """The distinct moments of `side` in `rows`; those of pairs are of a user, an item and the item's version."""
    return rows.select(*_moment(side)).distinct()


def user_side(asked: DataFrame, tables: Tables, config: Config, fitted: Fitted) -> DataFrame:
    """Distinct moments of users with `cold_user`, content, statistics, bags and provenance."""
    options = config.preferences
    found = _with_cold_flag(asked, tables.interactions, "user", fitted.cuts)
    if "user" in options.entities:
        found = _with_statistics(found, "user", tables, config, fitted)
    if options.recent:
        found = attach_recent(found, recent_positives(tables, config), options=options)
    return _with_content(found, tables.users, "user", list(config.content_kinds("user")))


def item_side(asked: DataFrame, tables: Tables, config: Config, fitted: Fitted) -> DataFrame:
    """Distinct moments of items with `cold_item`, content, statistics of item and categories, and provenance."""
    options, content = config.preferences, list(config.content_kinds("item"))
    entities = [entity for entity in options.entities if entity != "user" and CROSS not in entity]
    counted = [column for column in map(content_column, entities) if column]
    found = _with_content(asked, tables.items, "item", counted)
    found = _with_cold_flag(found, tables.interactions, "item", fitted.cuts)
    for entity in entities:
        found = _with_statistics(found, entity, tables, config, fitted)
    return _with_content(found, tables.items, "item", [name for name in content if name not in counted])


def pair_side(asked: DataFrame, tables: Tables, config: Config, fitted: Fitted) -> DataFrame:
    """Distinct moments of pairs with the statistics of crosses, and provenance."""
    entities = [entity for entity in config.preferences.entities if CROSS in entity]
    columns = [column for column in map(content_column, entities) if column]
    found = _with_content(asked, tables.items, "item", columns)
    for entity in entities:
        column, key = content_column(entity), key_column(entity)
        found = with_pair(found, f"item_{column}" if column else "item_id", key)
        found = _with_statistics(found, entity, tables, config, fitted).drop(key)
    return found.drop(*(f"item_{column}" for column in columns))


def recent_positives(tables: Tables, config: Config) -> DataFrame:
    """Positive events with the content, as it was at their time, that the users' bags are made of."""
    positives = tables.interactions.where(positive_condition(config))
    content = {name: name for name in config.preferences.recent if name != "item_id"}
    return attach_content(positives, tables.items, id="item_id", time="event_time", columns=content)


def join_side(rows: DataFrame, found: DataFrame, side: Side | Pair) -> DataFrame:
    """`rows` with a side's features at their moments; provenance is raised to that of the side."""
    times = {column.name: f"_{column.name}" for column in PROVENANCE}
    joined = rows.join(found.withColumnsRenamed(times), _moment(side), how="left")
    greatest = {
        name: F.greatest(name, mine) if name in rows.columns else F.col(mine)
        for name, mine in times.items()
        if name in found.columns
    }
    return joined.withColumns(greatest).drop(*times.values())


def _moment(side: Side | Pair) -> list[str]:
    if side == "pair":
        return ["user_id", *_moment("item")]
    return [f"{side}_id", f"_{side}_version", *CLOCK]


def _with_statistics(rows: DataFrame, entity: str, tables: Tables, config: Config, fitted: Fitted) -> DataFrame:
    """Adds an entity's statistics; `rows` have its key."""
    events = keyed_events(tables.interactions, tables.items, entity)
    return attach_statistics(
        rows, events, key=key_column(entity), entity=entity, options=config.preferences, priors=fitted.priors
    )


def _with_content(rows: DataFrame, versions: DataFrame, side: Side, names: list[str]) -> DataFrame:
    """Adds columns of the row's version, named `SIDE_COLUMN`."""
    if not names:
        return rows
    key = [f"{side}_id", f"_{side}_version"]
    dated = versions.withColumnRenamed("valid_from", key[1])
    return rows.join(dated.select(*key, *(F.col(n).alias(f"{side}_{n}") for n in names)), key, how="left")


def _with_cold_flag(rows: DataFrame, interactions: DataFrame, side: Side, cuts: Cuts) -> DataFrame:
    """Adds `cold_SIDE`: no event of it in the training period."""
    key = f"{side}_id"
    warm = interactions.where(in_training_period(cuts)).select(key).distinct().withColumn("_warm", F.lit(True))
    return rows.join(warm, key, how="left").withColumn(f"cold_{side}", F.col("_warm").isNull()).drop("_warm")
