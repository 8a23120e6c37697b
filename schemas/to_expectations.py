"""Table contracts as Great Expectations suites. The only file here that imports great_expectations."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe

from schemas.columns import TIME_MAX_US, TIME_MIN_US, Table

LARGEST = sys.float_info.max
"""The largest finite number."""


def suite(
    table: Table,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    allowed: Mapping[str, Sequence[str]] | None = None,
    key: Sequence[str] | None = None,
    min_rows: int = 0,
) -> Any:
    """The contract as an ExpectationSuite: columns in order, nothing missing that may not be, times in range, finite
    numbers, unique keys; with `ranges` and `allowed` values on top, by column.
    """
    ranges, allowed = ranges or {}, allowed or {}
    rules: list[Any] = [
        gxe.ExpectTableColumnsToMatchOrderedList(column_list=table.names),
        gxe.ExpectTableRowCountToBeBetween(min_value=min_rows),
    ]
    for column in table:
        if not column.nullable:
            rules.append(gxe.ExpectColumnValuesToNotBeNull(column=column.name))
            if column.type == "string":
                rules.append(gxe.ExpectColumnValueLengthsToBeBetween(column=column.name, min_value=1))
        if column.unit == "UTC us":
            low, high = ranges.get(column.name, (TIME_MIN_US, TIME_MAX_US))
            rules.append(gxe.ExpectColumnValuesToBeBetween(column=column.name, min_value=low, max_value=high))
        elif column.type == "float64":  # NaN is larger than any number to Spark
            low, high = ranges.get(column.name, (-LARGEST, LARGEST))
            rules.append(gxe.ExpectColumnValuesToBeBetween(column=column.name, min_value=low, max_value=high))
        if column.name in allowed:
            values = list(allowed[column.name])
            rules.append(gxe.ExpectColumnValuesToBeInSet(column=column.name, value_set=values))
    if "event_time" in table and "available_time" in table:
        rules.append(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="available_time", column_B="event_time", or_equal=True)
        )
    unique = list(key or table.key)
    if len(unique) > 1:
        rules.append(gxe.ExpectCompoundColumnsToBeUnique(column_list=unique))
    elif unique:
        rules.append(gxe.ExpectColumnValuesToBeUnique(column=unique[0]))
    return gx.ExpectationSuite(name=table.name, expectations=rules)


def range_suite(name: str, ranges: Mapping[str, tuple[float | None, float | None]]) -> Any:
    """Smallest and largest value of each column, as an ExpectationSuite; None where an end is open."""
    rules: list[Any] = []
    for column, (low, high) in ranges.items():
        if low is not None:
            rules.append(gxe.ExpectColumnMinToBeBetween(column=column, min_value=low))
        if high is not None:
            rules.append(gxe.ExpectColumnMaxToBeBetween(column=column, max_value=high))
    return gx.ExpectationSuite(name=name, expectations=rules)
