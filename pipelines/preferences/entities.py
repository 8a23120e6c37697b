"""Whose behaviour is counted: the key of an entity in each event, and in each row that asks. [spark]

An entity is `user`, `item`, `item.COLUMN` (a category of the item, by its content at the time of the event), or a
cross of the user with one of the others, `user*item.COLUMN`.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.content.as_of import attach_content
from schemas.preferences import CROSS, entity_prefix


def key_column(entity: str) -> str:
    """The column that holds an entity's key: `user_id`, `item_genres`, `user_item_genres`."""
    return f"{entity}_id" if entity in ("user", "item") else entity_prefix(entity)


def content_column(entity: str) -> str | None:
    """The item's content column that an entity is a category of; None for users, items and their cross.

    >>> content_column("user*item.genres"), content_column("user*item")
    ('genres', None)
    """
    return entity.partition(".")[2] or None


def keyed_events(interactions: DataFrame, items: DataFrame, entity: str) -> DataFrame:
    """Events with the string column `key_column(entity)`: once per category of their item, by its content then.

    `items` is the versioned content table. Events of an item without a category are left out.
    """
    column, key = content_column(entity), key_column(entity)
    if column is None:
        return interactions if CROSS not in entity else with_pair(interactions, "item_id", key)
    category = key_column(f"item.{column}")
    events = attach_content(interactions, items, id="item_id", time="event_time", columns={column: category})
    if isinstance(items.schema[column].dataType, T.ArrayType):
        events = events.withColumn(category, F.explode(F.array_distinct(category)))
    events = events.where(F.col(category).isNotNull())
    return with_pair(events, category, key).drop(category) if CROSS in entity else events


def with_pair(rows: DataFrame, other: str, key: str) -> DataFrame:
    """Adds `key`: the user with `other`, a string or a list of strings of which each makes one; null where it is."""
    if isinstance(rows.schema[other].dataType, T.ArrayType):
        return rows.withColumn(key, F.transform(other, lambda value: _pair(F.col("user_id"), value)))
    return rows.withColumn(key, F.when(F.col(other).isNotNull(), _pair(F.col("user_id"), F.col(other))))


def _pair(user: Column, other: Column) -> Column:
    """A JSON array of the two: readable, and no other pair is spelled alike."""
    return F.to_json(F.array(user, other))
