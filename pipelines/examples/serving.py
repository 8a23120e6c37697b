"""What serving has at its latest moment: every user and every item with the features that a scorer takes.

The same join as the examples', with another clock: that is why training and serving cannot differ.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.examples.existence import exists_from
from pipelines.examples.sides import item_side, recent_positives, user_side, with_version
from pipelines.examples.tables import Tables
from pipelines.features import feature_set
from pipelines.preferences.clock import Moment
from pipelines.preferences.entities import key_column, keyed_events
from pipelines.preferences.snapshot import snapshot
from schemas.content import Side
from schemas.fitted import Fitted
from schemas.preferences import serving_table
from schemas.to_spark import select_contract


def serving_users(tables: Tables, config: Config, fitted: Fitted, moment: Moment) -> DataFrame:
    """Everyone in the log or in the users table, new ones with content alone (`serving_table`)."""
    known = tables.interactions.select("user_id").union(tables.users.select("user_id")).distinct()
    rows = user_side(_at(known, tables.users, "user", moment), tables, config, fitted)
    return select_contract(rows, serving_table(feature_set(config).user))


def serving_items(tables: Tables, config: Config, fitted: Fitted, moment: Moment) -> DataFrame:
    """Every item that exists when the snapshot is served, new ones with content alone (`serving_table`)."""
    exists = exists_from(tables.items, tables.interactions)
    known = exists.where(F.col("exists_from") <= moment.served_from).select("item_id")
    rows = item_side(_at(known, tables.items, "item", moment), tables, config, fitted)
    return select_contract(rows, serving_table(feature_set(config).item))


def entity_snapshot(entity: str, tables: Tables, config: Config, fitted: Fitted, moment: Moment) -> DataFrame:
    """An entity's statistics at the moment (`snapshot_contract`); a user's bags with them."""
    return snapshot(
        keyed_events(tables.interactions, tables.items, entity),
        recent_positives(tables, config),
        key=key_column(entity),
        entity=entity,
        moment=moment,
        options=config.preferences,
        priors=fitted.priors,
    )


def _at(ids: DataFrame, versions: DataFrame, side: Side, moment: Moment) -> DataFrame:
    """`ids` at one moment: behaviour by its clock, content as of when it is served."""
    clock = {"as_of": moment.as_of, "known_by": moment.known_by, "event_time": moment.served_from}
    # Small numbers would be of 32 bits.
    rows = ids.withColumns({name: F.lit(value).cast("bigint") for name, value in clock.items()})
    return with_version(rows, versions, side)
