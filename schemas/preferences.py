"""Preference statistics: their derived names, and the snapshot tables that serving reads."""

from collections.abc import Iterable

from schemas.columns import Column, Table, time_column
from schemas.examples import SideFeatures

US_PER_DAY = 86_400_000_000
LIFETIME = "lifetime"


CROSS = "*"
"""Between the two parts of a cross: `user*item.genres` is a user with a genre."""


def entity_prefix(entity: str) -> str:
    """How the names of an entity's columns and table begin.

    >>> entity_prefix("user*item.genres")
    'user_item_genres'
    """
    return entity.replace(".", "_").replace(CROSS, "_")


def statistic_name(entity: str, statistic: str, kind: str, window: str) -> str:
    """The derived column name: entity, statistic, kind, window.

    >>> statistic_name("item.genres", "click", "rate", "30d")
    'item_genres_click_rate_30d'
    """
    return f"{entity_prefix(entity)}_{statistic}_{kind}_{window}"


def snapshot_table(entity: str, statistics: Iterable[str], bags: Iterable[str] = ()) -> Table:
    """Snapshots of one entity: a row per entity and boundary; no history is missing, not zero.

    `statistics` are float64 columns, `bags` list<string> columns (a user's recent categories, say).
    """
    return Table(
        f"{entity}_snapshots",
        (
            Column("entity_id", "string", doc="a user, item or category; of a cross both, as a JSON array"),
            time_column("snapshot_time", "the boundary: only events before it are counted"),
            time_column("served_from", "boundary + publish_delay: an example from here on may see it"),
            *(Column(name, "float64", True) for name in statistics),
            *(Column(name, "list<string>", True) for name in bags),
        ),
        key=("entity_id", "snapshot_time"),
    )


def serving_table(features: SideFeatures) -> Table:
    """What serving has of every user or item at the latest snapshot: the row that a scorer takes.

    New ones are included: content alone, preference missing.
    """
    side = features.side
    return Table(
        f"serving_{side}s",
        (
            Column(f"{side}_id", "string", doc=f"the {side}"),
            time_column("as_of", "the latest boundary: statistics count events before it"),
            time_column("known_by", "…that were available by this"),
            *features.columns,
        ),
        key=(f"{side}_id",),
    )
