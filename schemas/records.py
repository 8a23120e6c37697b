"""Training records: which features a record holds, in which order, how long and how wide.

Every feature has a fixed length, so that all records of a dataset have one byte layout.
"""

from collections.abc import Iterable

from schemas.fitted import InputSpec
from schemas.manifest import ColumnEntry

ID_LENGTH = 32
"""Hexadecimal digits of an example_id."""

HEADER = (
    ColumnEntry(name="example_id", type="string", length=ID_LENGTH),
    ColumnEntry(name="label", type="float32"),
    ColumnEntry(name="weight", type="float32"),
    ColumnEntry(name="event_time", type="int64", unit="UTC us", width=10),
    ColumnEntry(name="user_key", type="int64", width=9),
    ColumnEntry(name="item_key", type="int64", width=9),
)
"""What every record opens with. The keys are 63-bit keyed hashes of the ids: they tell rows of one user or item
apart when known positives are masked, and are never a model's input."""

CATALOGUE = "catalogue"
"""The split of items that training draws negatives from, whoever met them: no examples, and never evaluated."""
CATALOGUE_HEADER = (
    HEADER[0],
    ColumnEntry(name="event_time", type="int64", unit="UTC us", width=10),
    ColumnEntry(name="item_key", type="int64", width=9),
    ColumnEntry(name="exists_from", type="int64", unit="UTC us", width=10),
)
"""What its records open with: `event_time` is when the item's statistics were known, `exists_from` when it came."""


def record_columns(inputs: Iterable[InputSpec]) -> tuple[ColumnEntry, ...]:
    """The columns of a record: HEADER, then the model's inputs by name.

    Raises ValueError where an input has a name that is taken.
    """
    return _columns(HEADER, inputs)


def catalogue_columns(inputs: Iterable[InputSpec]) -> tuple[ColumnEntry, ...]:
    """The columns of a record of the catalogue: CATALOGUE_HEADER, then the inputs of the item side by name."""
    return _columns(CATALOGUE_HEADER, (spec for spec in inputs if spec.side == "item"))


def _columns(header: tuple[ColumnEntry, ...], inputs: Iterable[InputSpec]) -> tuple[ColumnEntry, ...]:
    ordered = sorted(inputs, key=lambda spec: spec.name)
    names = [column.name for column in header] + [spec.name for spec in ordered]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"features of a record must have distinct names, got {twice} twice; rename a content column")
    return (*header, *(_input_column(spec) for spec in ordered))


def _input_column(spec: InputSpec) -> ColumnEntry:
    if spec.kind == "floats":
        return ColumnEntry(name=spec.name, type="list<float32>", length=spec.length)
    return ColumnEntry(
        name=spec.name, type="list<int64>", length=spec.length, width=varint_width(max(spec.table_size - 1, 0))
    )


def varint_width(largest: int) -> int:
    """Bytes that a varint needs for values 0 … `largest`.

    >>> varint_width(127), varint_width(128), varint_width(2**63 - 1)
    (1, 2, 9)
    """
    return max(1, -(-largest.bit_length() // 7))
