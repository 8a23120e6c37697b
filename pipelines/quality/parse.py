"""A log's raw rows to the interactions contract, each row with the first rule that it breaks.

No row is dropped here: what becomes of bad rows is left to the gate, of copies to `duplicates`.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.config import InteractionSource, QualityOptions, TimeColumn, parse_duration, utc_microseconds
from pipelines.errors import SourceError
from pipelines.quality.read import Raw
from pipelines.quality.times import parse_time
from schemas.columns import TIME_MAX_US, TIME_MIN_US
from schemas.interactions import INTERACTIONS, QUARANTINE

JUDGED = (*QUARANTINE.names, *INTERACTIONS.names)
"""Columns of a judged log: where a row came from, why it is bad, the contract.

Of a good row `file`, `reason` and `row` are null.
"""


def parse_interactions(raw: Raw, source: InteractionSource, options: QualityOptions) -> DataFrame:
    """Raw rows to JUDGED columns, one for one."""
    user, user_problem = id_of(raw, source.user_id, "user_id")
    item, item_problem = id_of(raw, source.item_id, "item_id")
    event, event_problem = time_of(raw, source.event_time, "event_time", options)
    if source.available_time:
        available, available_problem = time_of(raw, source.available_time, "available_time", options)
    else:
        available, available_problem = event + F.lit(parse_duration(source.availability_lag)), F.lit(None)
    action = raw.columns[source.action].cast("string") if source.action else F.lit(source.action_value)
    weight, weight_problem = _weight(raw, source, options)
    reason = F.coalesce(
        raw.broken,
        user_problem,
        item_problem,
        event_problem,
        available_problem,
        F.when(available < event, F.lit("available_time: earlier than event_time")),
        _empty("action", action),
        _not_among(action, options.actions),
        weight_problem,
    )
    values = {
        "source": F.lit(raw.label),
        "file": F.when(reason.isNotNull(), raw.file),
        "reason": reason,
        "row": F.when(reason.isNotNull(), raw.row),
        "user_id": user,
        "item_id": item,
        "event_time": event,
        "available_time": available,
        "action": action,
        "weight": weight,
    }
    return raw.frame.select(*[values[name].alias(name) for name in JUDGED])


def id_of(raw: Raw, column: str, name: str) -> tuple[Column, Column]:
    """(text, reason or null) of an id.

    Whole floats read as the integers that they were before a null beside them made them floats: 1.0 is `1`.
    """
    value = raw.columns[column]
    text = value.cast("string")
    if isinstance(raw.type_of(column), T.DoubleType | T.FloatType):
        whole = value.try_cast("bigint")
        text = F.when(whole.cast("double") == value, whole.cast("string")).otherwise(text)
        problem = F.when(is_not_finite(value), F.lit(f"{name}: NaN or infinite"))
    else:
        # What a decoder puts where bytes are not of the encoding: two ids may look alike after that.
        problem = F.when(text.contains("\ufffd"), F.lit(f"{name}: not of the source's encoding"))
    return text, F.coalesce(_empty(name, text), problem)


def time_of(
    raw: Raw, time: TimeColumn, name: str, options: QualityOptions, *, log: bool = True
) -> tuple[Column, Column]:
    """(microseconds, reason or null) of a time column.

    Numbers, and all times of a log, must lie within quality.earliest and quality.latest: a wrong unit shows there.
    """
    moment, problem = parse_time(raw.columns[time.column], raw.type_of(time.column), time, f"{raw.label}.{name}")
    bounded = log or time.unit not in ("iso", "format")
    first = utc_microseconds(options.earliest, "quality.earliest") if bounded else TIME_MIN_US
    last = utc_microseconds(options.latest, "quality.latest") if bounded else TIME_MAX_US
    doubt = f"is unit: {time.unit} right?" if time.unit not in ("iso", "format") else "is the clock right?"
    # In content the earliest time there can be means always: our own datasets write it.
    early = (moment < max(first, TIME_MIN_US)) & (F.lit(log) | (moment != TIME_MIN_US))
    reason = (
        F.when(problem.isNotNull(), F.concat(F.lit(f"{name}: "), problem))
        .when(early, F.lit(f"{name}: before {options.earliest if bounded else 1900}; {doubt}"))
        .when(moment >= min(last, TIME_MAX_US), F.lit(f"{name}: after {options.latest if bounded else 2100}; {doubt}"))
    )
    return moment, reason


def number_of(value: Column, kind: T.DataType, name: str) -> tuple[Column, Column]:
    """(float64, reason or null) of a raw number; empty is null without a reason.

    Raises SourceError where the column as a whole cannot hold numbers.
    """
    if not isinstance(kind, T.StringType | T.NumericType | T.BooleanType | T.NullType):
        raise SourceError(f"{name}: a number cannot be read from {kind.simpleString()}; choose another column")
    number = value.try_cast("double")
    text = F.trim(value) if isinstance(kind, T.StringType) else F.lit("x")
    return number, (
        F.when(value.isNull() | (text == ""), F.lit(None))
        .when(number.isNull(), F.lit(f"{name}: not a number"))
        .when(is_not_finite(number), F.lit(f"{name}: NaN or infinite"))
    )


def is_not_finite(number: Column) -> Column:
    """True for NaN and infinities."""
    return F.isnan(number) | (F.abs(number) == float("inf"))


def _weight(raw: Raw, source: InteractionSource, options: QualityOptions) -> tuple[Column, Column]:
    if source.weight is None:
        return F.lit(1.0), F.lit(None)
    number, problem = number_of(raw.columns[source.weight], raw.type_of(source.weight), "weight")
    problem = F.coalesce(problem, F.when(number.isNull(), F.lit("weight: empty")))
    if options.weight_range:
        low, high = options.weight_range
        outside = (number < low) | (number > high)
        problem = F.coalesce(
            problem, F.when(outside, F.lit(f"weight: outside quality.weight_range {low:g} to {high:g}"))
        )
    return number, problem


def _empty(name: str, value: Column) -> Column:
    return F.when(value.isNull() | (F.trim(value) == ""), F.lit(f"{name}: empty"))


def _not_among(action: Column, allowed: Sequence[str] | None) -> Column:
    if allowed is None:
        return F.lit(None)
    return F.when(~action.isin(*allowed), F.lit("action: not among quality.actions"))
