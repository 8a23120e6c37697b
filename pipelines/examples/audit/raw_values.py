"""What raw values mean, by the configuration: ids, points in time, whole events. Plain Python, one value at a time.

Stricter than the pipeline's own parser: what is not plainly valid is None, and is not compared.
"""

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.config import ContentSource, InteractionSource, QualityOptions, TimeColumn, parse_duration
from pipelines.examples.audit.raw_rows import Values
from schemas.columns import TIME_MAX_US, TIME_MIN_US

Event = dict[str, str | int | float]
"""A row of INTERACTIONS."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_TICKS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_PATTERNS = {
    "yyyy": "%Y", "yy": "%y", "MMM": "%b", "MM": "%m", "M": "%m", "dd": "%d", "d": "%d", "HH": "%H", "H": "%H",
    "hh": "%I", "h": "%I", "mm": "%M", "m": "%M", "ss": "%S", "s": "%S", "SSS": "%f", "SSSSSS": "%f", "a": "%p",
    "XXX": "%z", "XX": "%z", "xxx": "%z", "xx": "%z", "Z": "%z", "EEE": "%a",
}  # fmt: skip
"""Letters of Spark's datetime patterns -> Python's."""


class Unsupported(ValueError):
    """The configuration says something that plain Python does not know."""


def event_of(values: Values, source: InteractionSource, options: QualityOptions) -> Event | None:
    """The event that a raw row of a log is; None where the row breaks a rule. Raises Unsupported."""
    user, item = _id(values.get(source.user_id)), _id(values.get(source.item_id))
    action = _id(values.get(source.action)) if source.action else source.action_value
    time = _plausible(moment(values.get(source.event_time.column), source.event_time), options)
    available = None if time is None else time + parse_duration(source.availability_lag)
    if source.available_time:
        available = _plausible(moment(values.get(source.available_time.column), source.available_time), options)
    weight = _number(values.get(source.weight)) if source.weight else 1.0
    if user is None or item is None or action is None or time is None or available is None or weight is None:
        return None
    low, high = options.weight_range or (weight, weight)
    if available < time or not low <= weight <= high or (options.actions and action not in options.actions):
        return None
    return {
        "user_id": user,
        "item_id": item,
        "event_time": time,
        "available_time": available,
        "action": action,
        "weight": weight,
    }


def version_of(values: Values, source: ContentSource) -> tuple[str, int, int | None] | None:
    """(id, valid_from, created_at or None) of a raw row of content; None where it breaks a rule. Raises Unsupported."""
    key = _id(values.get(source.id))
    valid = moment(values.get(source.valid_from.column), source.valid_from) if source.valid_from else TIME_MIN_US
    created = moment(values.get(source.created_at.column), source.created_at) if source.created_at else None
    if key is None or valid is None or not all(TIME_MIN_US <= t < TIME_MAX_US for t in (valid, created or 0)):
        return None
    return key, valid, created


def moment(value: Any, time: TimeColumn) -> int | None:
    """UTC microseconds of a raw value; None where it is not plainly one. Raises Unsupported.

    >>> moment("2025-01-01 01:00:00", TimeColumn(column="t", zone="Europe/Oslo")) == 1_735_689_600_000_000
    True
    """
    if value is None or isinstance(value, bool):
        return None
    if time.unit in _TICKS_PER_S:
        try:
            return int((Decimal(str(value).strip()) * 1_000_000 / _TICKS_PER_S[time.unit]).__floor__())
        except (InvalidOperation, ValueError, OverflowError):
            return None
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day)
    if not isinstance(value, dt.datetime):
        value = (_by_pattern(time.format or "") if time.unit == "format" else _iso)(str(value).strip())
    if value is None or (value.tzinfo is None and time.zone is None):
        return None
    aware: dt.datetime = value if value.tzinfo else value.replace(tzinfo=_zone(time.zone or ""))
    return (aware - _EPOCH) // _MICROSECOND


def _iso(text: str) -> dt.datetime | None:
    if not re.match(r"\d{4}-\d{2}-\d{2}", text):
        return None
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None


def _by_pattern(pattern: str) -> Callable[[str], dt.datetime | None]:
    """A reader of times written by a Spark pattern. Raises Unsupported for letters that Python has none for."""
    parts = []
    for part in re.finditer(r"'(?P<quoted>[^']*)'|(?P<letters>([A-Za-z])\3*)|(?P<other>[^A-Za-z'])", pattern):
        letters = part["letters"]
        if letters and letters not in _PATTERNS:
            raise Unsupported(f"plain Python has nothing like {letters!r} of the pattern {pattern!r}")
        parts.append(_PATTERNS[letters] if letters else (part["quoted"] or part["other"] or "").replace("%", "%%"))

    def read(text: str) -> dt.datetime | None:
        try:
            return dt.datetime.strptime(text, "".join(parts))
        except ValueError:
            return None

    return read


def _zone(name: str) -> dt.tzinfo:
    """A zone by its name or its offset. Raises Unsupported."""
    try:
        if re.fullmatch(r"[+-]\d{2}:\d{2}", name):
            return dt.datetime.fromisoformat(f"2000-01-01T00:00{name}").tzinfo or dt.UTC
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        raise Unsupported(f"plain Python knows no zone {name!r}") from None


def _plausible(time: int | None, options: QualityOptions) -> int | None:
    first, last = (moment(text, TimeColumn(column="", zone="UTC")) for text in (options.earliest, options.latest))
    within = time is not None and max(first or TIME_MIN_US, TIME_MIN_US) <= time < min(last or TIME_MAX_US, TIME_MAX_US)
    return time if within else None


def _id(value: Any) -> str | None:
    """An id as text; whole floats are the integers that they were before a null beside them made them floats."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if text.strip() and "\ufffd" not in text else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None
