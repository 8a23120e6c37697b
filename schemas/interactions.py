"""The interaction log after the quality gate, and what the gate set aside."""

from schemas.columns import Column, Table, time_column

INTERACTIONS = Table(
    "interactions",
    (
        Column("user_id", "string", doc="who acted"),
        Column("item_id", "string", doc="on what"),
        time_column("event_time", "when it happened"),
        time_column("available_time", "when this pipeline could first have seen it; never before event_time"),
        Column("action", "string", doc="what was done: impression, click, rating, …"),
        Column("weight", "float64", doc="the action's size (a rating's stars, an amount); 1.0 where the log has none"),
    ),
    key=("user_id", "item_id", "event_time", "action"),
)
"""Clean events. The key is the default event key; `quality.event_key` may name another."""

QUARANTINE = Table(
    "quarantine",
    (
        Column("source", "string", doc="which configured source the row came from: interactions[0], items[1], …"),
        Column("file", "string", doc="file name, relative to the data folder"),
        Column("reason", "string", doc="the rule that the row broke, e.g. `event_time: not a time in ms`"),
        Column("row", "string", doc="the row as read, as JSON"),
    ),
    key=(),
)
"""Rows that could not be parsed or broke the contract, each with its reason. Nothing is dropped silently."""
