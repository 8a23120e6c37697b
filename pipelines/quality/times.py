"""Points in time as sources write them, to int64 UTC microseconds. Which times are plausible is left to `parse`."""

from pyspark.errors import PySparkException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.config import TimeColumn
from pipelines.errors import ConfigError, SourceError

NO_ZONE = "a time without a zone"
_TICKS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DATE = r"^\s*\d{4}-\d{1,2}-\d{1,2}"
_ZONED = _DATE + r"[Tt ]\s*\d.*[A-Za-z+-]"


def parse_time(value: Column, kind: T.DataType, time: TimeColumn, key: str) -> tuple[Column, Column]:
    """(microseconds or null, problem or null) of a raw value of Spark type `kind`.

    `key` is the configuration key, for errors. Raises SourceError where the column as a whole cannot be what
    `time` says.
    """
    if time.unit in _TICKS_PER_S:
        _refuse(isinstance(kind, T.TimestampType | T.TimestampNTZType | T.DateType), key, time, kind, "set unit: iso")
        plain = isinstance(kind, T.StringType | T.NumericType | T.NullType)
        _refuse(not plain, key, time, kind, "choose another column")
        moment, zoneless = _epoch(value, kind, _TICKS_PER_S[time.unit]), F.lit(False)
    elif isinstance(kind, T.TimestampType):
        moment, zoneless = F.unix_micros(value), F.lit(False)
    elif isinstance(kind, T.TimestampNTZType | T.DateType):
        _refuse(time.zone is None, key, time, kind, "it has no zone: set zone, such as zone: UTC")
        moment, zoneless = _in_zone(value.cast("timestamp"), time.zone), F.lit(False)
    else:
        _refuse(not isinstance(kind, T.StringType), key, time, kind, "set unit: s, ms, us or ns")
        moment, zoneless = _text(value, time, key)
    empty = value.isNull() if not isinstance(kind, T.StringType) else (F.trim(value) == "") | value.isNull()
    problem = (
        F.when(empty, F.lit("empty"))
        .when(zoneless, F.lit(NO_ZONE))
        .when(moment.isNull(), F.lit(f"not a time in {time.format or time.unit}"))
    )
    return moment, problem


def check_time(spark: SparkSession, time: TimeColumn, key: str) -> None:
    """Raises ConfigError where Spark knows no such zone or pattern: found before any row is read."""
    if time.unit == "format" and not time.format:
        raise ConfigError(f"source.{key}: unit: format needs a pattern; set format, such as yyyy-MM-dd HH:mm:ss")
    try:
        if time.zone:
            probe = spark.range(1).select(F.to_utc_timestamp(F.timestamp_seconds(F.col("id")), time.zone))
            probe.collect()
    except PySparkException:
        raise ConfigError(
            f"source.{key}.zone must be a time zone, got {time.zone!r}; set one such as UTC, Europe/Oslo or +01:00"
        ) from None
    try:
        if time.format:
            text = F.col("id").cast("string")
            spark.range(1).select(F.try_to_timestamp(text, F.lit(time.format))).collect()
            spark.range(1).select(F.date_format(F.timestamp_seconds(F.col("id")), time.format)).collect()
    except PySparkException:
        raise ConfigError(
            f"source.{key}.format must be a Spark datetime pattern, got {time.format!r}; "
            "set one such as yyyy-MM-dd HH:mm:ss"
        ) from None


def _epoch(value: Column, kind: T.DataType, ticks_per_s: int) -> Column:
    """Exact: whole numbers stay integers, fractions go through decimals, never through binary floats."""
    decimal = value.try_cast("decimal(30,9)")
    micros = F.try_divide(F.try_multiply(decimal, F.lit(1_000_000)), F.lit(ticks_per_s))
    exact = F.floor(micros.try_cast("decimal(38,6)")).try_cast("bigint")
    if not isinstance(kind, T.StringType | T.IntegralType):
        return exact
    whole = value.try_cast("bigint")
    if ticks_per_s > 1_000_000:
        step = ticks_per_s // 1_000_000
        fast = F.try_divide(whole - F.pmod(whole, F.lit(step)), F.lit(step)).try_cast("bigint")
    else:
        fast = F.try_multiply(whole, F.lit(1_000_000 // ticks_per_s))
    return F.coalesce(fast, exact)


def _text(value: Column, time: TimeColumn, key: str) -> tuple[Column, Column]:
    """(moment, whether it lacks a zone). The session's zone is UTC: a time without one is read as UTC, then moved."""
    if time.unit == "format":
        pattern = time.format or ""
        zoned = any(letter in _unquoted(pattern) for letter in "VzOXx")
        if not zoned and time.zone is None:
            raise SourceError(
                f"source.{key}: the pattern {pattern!r} has no zone, and guessing one would move every event; "
                f"set source.{key}.zone, such as zone: UTC"
            )
        parsed = F.try_to_timestamp(value, F.lit(pattern))
        return F.unix_micros(parsed) if zoned else _in_zone(parsed, time.zone), F.lit(False)
    parsed = F.when(value.rlike(_DATE), value.try_cast("timestamp"))  # a bare "12:30" would mean today
    has_zone = value.rlike(_ZONED)
    moved = F.when(has_zone, F.unix_micros(parsed))
    if time.zone is None:
        return moved, parsed.isNotNull() & ~has_zone
    return F.coalesce(moved, F.when(~has_zone, _in_zone(parsed, time.zone))), F.lit(False)


def _in_zone(wall_clock: Column, zone: str | None) -> Column:
    return F.unix_micros(F.to_utc_timestamp(wall_clock, zone or "UTC"))


def _unquoted(pattern: str) -> str:
    """A datetime pattern without its literal text."""
    return "".join(pattern.split("'")[::2])


def _refuse(condition: bool, key: str, time: TimeColumn, kind: T.DataType, remedy: str) -> None:
    if condition:
        raise SourceError(
            f"source.{key}: column {time.column!r} holds {kind.simpleString()}, which unit: {time.unit} cannot be "
            f"read from; {remedy}"
        )
