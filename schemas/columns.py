"""Columns and tables, as data: the vocabulary that every contract in this package is written in.

How a type is spelled in an engine is left to `to_spark`, `to_tf` and `to_expectations`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["string", "int64", "float64", "float32", "bool", "list<string>", "list<int64>", "list<float32>"]

TIME_MIN_US = -2_208_988_800_000_000
"""1900-01-01T00:00Z in UTC microseconds: an earlier time is taken for a wrong unit."""
TIME_MAX_US = 4_102_444_800_000_000
"""2100-01-01T00:00Z in UTC microseconds: a later time is taken for a wrong unit."""


@dataclass(frozen=True)
class Column:
    """One column: its name, type, whether it may be missing, its unit, and what it means."""

    name: str
    type: ColumnType
    nullable: bool = False
    unit: str = ""
    doc: str = ""
    length: int = 0
    """Values of a list; 0 for a scalar, or for a list of any length."""


@dataclass(frozen=True)
class Table:
    """A table contract: ordered columns and the key that names a row uniquely."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"columns of a table must have distinct names; {self.name} repeats {twice}")
        unknown = set(self.key) - set(names)
        if unknown:
            raise ValueError(f"the key of {self.name} names columns it does not have: {sorted(unknown)}")

    @property
    def names(self) -> list[str]:
        """Column names, in order."""
        return [column.name for column in self.columns]

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name!r}; it has {self.names}")

    def __contains__(self, name: object) -> bool:
        return any(column.name == name for column in self.columns)


def time_column(name: str, doc: str, nullable: bool = False) -> Column:
    """A point in time. All of Thaw's times are int64 microseconds since 1970-01-01T00:00Z."""
    return Column(name, "int64", nullable, "UTC us", doc)
