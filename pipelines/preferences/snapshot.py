"""What serving holds of an entity: its statistics, and a user's bags, at one moment. [spark]"""

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import PreferenceOptions
from pipelines.features import bag_names, statistic_names
from pipelines.preferences.clock import Moment, latest_moment
from pipelines.preferences.join import attach_recent, attach_statistics
from schemas.columns import Table
from schemas.preferences import entity_prefix, snapshot_table
from schemas.to_spark import select_contract


def serving_moment(interactions: DataFrame, options: PreferenceOptions) -> Moment:
    """The clock after the log's end; `interactions` is not empty."""
    row = interactions.agg(F.max("event_time").alias("happened"), F.max("available_time").alias("known")).collect()[0]
    return latest_moment(row["happened"], row["known"], options)


def snapshot_contract(entity: str, options: PreferenceOptions) -> Table:
    """The table of an entity's snapshots: for users the bags too."""
    statistics = statistic_names(entity, options) if entity in options.entities else ()
    return snapshot_table(entity_prefix(entity), statistics, bag_names(options) if entity == "user" else ())


def snapshot_contracts(options: PreferenceOptions) -> dict[str, Table]:
    """Entity -> `snapshot_contract`, of all that have snapshots: users also where only bags are kept of them."""
    entities = dict.fromkeys((*options.entities, *(("user",) if options.recent else ())))
    return {entity: snapshot_contract(entity, options) for entity in entities}


def snapshot(
    events: DataFrame,
    positives: DataFrame,
    *,
    key: str,
    entity: str,
    moment: Moment,
    options: PreferenceOptions,
    priors: Mapping[str, float],
) -> DataFrame:
    """One row per value of `key` with any event in sight at `moment`: what `attach_statistics` gives an example then.

    `events` are INTERACTIONS with the string column `key`; `positives` are as `attach_recent` takes them, and used for
    users alone.
    """
    rows = (
        events.select(key)
        .distinct()
        .withColumns({"as_of": F.lit(moment.as_of).cast("bigint"), "known_by": F.lit(moment.known_by).cast("bigint")})
    )
    if entity in options.entities:
        rows = attach_statistics(rows, events, key=key, entity=entity, options=options, priors=priors)
    if entity == "user":
        rows = attach_recent(rows, positives, options=options)
    served = rows.where(F.col("max_event_time").isNotNull()).withColumns(
        {
            "entity_id": F.col(key),
            "snapshot_time": F.col("as_of"),
            "served_from": F.lit(moment.served_from),
        }
    )
    return select_contract(served, snapshot_contract(entity, options))
