"""Examples and evaluation candidates: what the point-in-time join makes, before encoding.

A feature's name carries its side: content column `genres` of an item is `item_genres`; statistics have
derived names (`item_click_rate_30d`, `user_click_count_7d`, `item_category_click_rate_7d`), and the
categories of a user's latest positives are bags named `user_recent_<column>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.columns import Column, Table, time_column
from schemas.content import CONTENT_TYPES, ContentKind, Side

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SideFeatures:
    """The features of one side: content (never dropped) and preference (dropped at random, missing for the new)."""

    side: Side
    content: Mapping[str, ContentKind] = field(default_factory=dict)
    """Feature name -> kind."""
    statistics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Preference: entity (`item`, `item.tags`) -> float64 columns, null where there is no history."""
    bags: tuple[str, ...] = ()
    """Preference: list<string> columns, null where there is no history."""

    @property
    def statistic_names(self) -> tuple[str, ...]:
        """The statistics of all entities, in order."""
        return tuple(name for names in self.statistics.values() for name in names)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every feature column of the side, content first."""
        return (
            *(Column(name, CONTENT_TYPES[kind], True, doc=f"content: {kind}") for name, kind in self.content.items()),
            *(Column(name, "float64", True, doc="preference: statistic") for name in self.statistic_names),
            *(Column(name, "list<string>", True, doc="preference: bag") for name in self.bags),
        )


@dataclass(frozen=True)
class FeatureSet:
    """Both sides' features, in the order every later stage keeps."""

    user: SideFeatures
    item: SideFeatures
    crosses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Entity (`user*item.genres`) -> float64 columns, null where there is no history."""

    @property
    def side_columns(self) -> tuple[Column, ...]:
        """User columns, then item columns: what two towers can read, each its own."""
        return (*self.user.columns, *self.item.columns)

    @property
    def cross_names(self) -> tuple[str, ...]:
        """The statistics of all crosses, in order. They belong to a pair, so no tower has them."""
        return tuple(name for names in self.crosses.values() for name in names)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The sides' columns, then those of the crosses."""
        return (
            *self.side_columns,
            *(Column(name, "float64", True, doc="statistic of a cross") for name in self.cross_names),
        )


PROVENANCE = (
    time_column("max_event_time", "largest event_time of any event that contributed to a feature", nullable=True),
    time_column("max_available_time", "largest available_time of any such event", nullable=True),
)


def example_table(features: FeatureSet) -> Table:
    """One row per labelled (user, item, time)."""
    return Table(
        "examples",
        (
            Column("example_id", "string", doc="pure function of the event's key and the negative's index"),
            Column("user_id", "string"),
            Column("item_id", "string"),
            time_column("event_time", "t, the moment of the decision that the label judges"),
            time_column("as_of", "statistics count events before this: t (exact) or the snapshot's boundary"),
            time_column("known_by", "…that were available by this: t, or boundary + landing_delay"),
            Column("label", "float32", doc="1 positive, 0 negative"),
            Column("weight", "float32", doc="sample weight"),
            time_column("label_time", "when the label was closed and known"),
            Column("negative_index", "int64", doc="0 for a logged event, 1, 2, … for drawn negatives"),
            Column("split", "string", doc="train, validation or test, by event_time"),
            Column("cold_user", "bool", doc="the user has no event in the training period"),
            Column("cold_item", "bool", doc="the item has no event in the training period"),
            *PROVENANCE,
            *features.columns,
        ),
        key=("example_id",),
    )


def candidate_table(item: SideFeatures) -> Table:
    """What a validation or test example may rank: the item side of the catalogue at each evaluation clock.

    A clock is a distinct (as_of, known_by). A row is one version of one item: it is a candidate for an
    example of that clock at t where `in_effect_from <= t < in_effect_to`.
    """
    return Table(
        "candidates",
        (
            time_column("as_of", "the clock"),
            time_column("known_by", "the clock"),
            Column("item_id", "string"),
            time_column("in_effect_from", "the later of the item's existence and this content version's valid_from"),
            time_column("in_effect_to", "the next version's valid_from, or the largest int64"),
            time_column("exists_from", "when the item came into being"),
            Column("cold_item", "bool", doc="the item has no event in the training period"),
            Column("past_positives", "int64", doc="positive events known at the clock"),
            *item.columns,
        ),
        key=("as_of", "known_by", "item_id", "in_effect_from"),
    )


EXISTS = Table(
    "exists",
    (
        Column("item_id", "string"),
        time_column("exists_from", "when the item came into being, as the catalogue or its first availability says"),
    ),
    key=("item_id",),
)
"""Items that may be drawn or ranked, and from when on."""
