"""What built features look like over time: a small table that expectations are checked on and people can chart."""

from schemas.columns import Column, Table, time_column

PROFILE = Table(
    "profile",
    (
        Column("feature", "string"),
        time_column("since", "the period begins here: a day, or preferences.period where that is longer"),
        Column("split", "string", doc="train, validation or test"),
        Column("rows", "int64", doc="examples of the period"),
        Column("missing", "int64", doc="…that have no value"),
        Column("entities", "int64", doc="different users, or items, of the period: at least so many"),
        Column("lowest", "float64", True, doc="of numbers, and of the lengths of lists; null for text"),
        Column("highest", "float64", True, doc="infinite where a value is NaN"),
        Column("mean", "float64", True),
        Column("std", "float64", True, doc="standard deviation of the values, not of their mean"),
    ),
    key=("feature", "since", "split"),
)
