"""Content tables' raw rows to typed values, each row with the first rule that it breaks.

How rows become versions is left to `versions`.
"""

import re

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.config import ContentColumn, ContentSource, QualityOptions
from pipelines.errors import ConfigError, SourceError
from pipelines.quality.parse import id_of, is_not_finite, number_of, time_of
from pipelines.quality.read import Raw
from schemas.columns import TIME_MIN_US
from schemas.interactions import QUARANTINE

VERSION = ("id", "valid_from", "created_at", "title")


def judged_content(source: ContentSource) -> list[str]:
    """Columns of a judged content source: where a row came from, why it is bad (null: good), its values."""
    return [*QUARANTINE.names, *VERSION, *source.columns]


def check_content(label: str, source: ContentSource) -> None:
    """Raises ConfigError where the options contradict each other."""
    for name, column in source.columns.items():
        if column.pattern is not None:
            try:
                groups = re.compile(column.pattern).groups
            except re.error as error:
                raise ConfigError(
                    f"source.{label}.columns.{name}.pattern must be a regular expression: {error}"
                ) from None
            if groups < 1:
                raise ConfigError(
                    f"source.{label}.columns.{name}.pattern must have a group (…) that is the value, "
                    f"got {column.pattern!r}"
                )
    if source.accumulate:
        others = [name for name, column in source.columns.items() if column.kind != "categories"]
        if others or source.title or source.created_at:
            raise ConfigError(
                f"source.{label}: accumulate adds up `categories` columns alone, "
                f"got {others or 'title or created_at'}; declare the others in a source of their own"
            )
        if source.valid_from is None:
            raise ConfigError(f"source.{label}: accumulate needs a time for each row; set valid_from")


def parse_content(raw: Raw, source: ContentSource, options: QualityOptions) -> DataFrame:
    """Raw rows to `judged_content` columns, one for one."""
    id_, problem = id_of(raw, source.id, source.id)
    problems = [raw.broken, problem]
    valid: Column = F.lit(TIME_MIN_US)
    created: Column = F.lit(None).cast("bigint")
    if source.valid_from:
        valid, problem = time_of(raw, source.valid_from, "valid_from", options, log=False)
        problems.append(problem)
    if source.created_at:
        created, problem = time_of(raw, source.created_at, "created_at", options, log=False)
        problems.append(F.when(problem != "created_at: empty", problem))  # not every source knows for every row
    values = {"id": id_, "valid_from": valid, "created_at": created}
    values["title"] = _blank_to_null(raw.columns[source.title].cast("string") if source.title else F.lit(None))
    for name, column in source.columns.items():
        source_column = column.column or name
        key = f"source.{raw.label}.columns.{name}"
        values[name], problem = _value(raw.columns[source_column], raw.type_of(source_column), column, name, key)
        problems.append(problem)
    values |= {"source": F.lit(raw.label), "file": raw.file, "reason": F.coalesce(*problems), "row": raw.row}
    return raw.frame.select(*[values[name].alias(name) for name in judged_content(source)])


def judge_vectors(parsed: DataFrame, source: ContentSource) -> DataFrame:
    """`parsed` with vectors of another length than their column's commonest marked bad.

    Scans the source once per vector column.
    """
    for name in (name for name, column in source.columns.items() if column.kind == "vector"):
        good = parsed.filter(F.col("reason").isNull() & F.col(name).isNotNull())
        sizes = good.groupBy(F.size(name).alias("size")).count().collect()
        usual = min((-row["count"], row["size"]) for row in sizes)[1] if sizes else 0
        odd = F.when(F.size(name) != usual, F.lit(f"{name}: not {usual} numbers as in other rows"))
        parsed = parsed.withColumn("reason", F.coalesce("reason", odd))
    return parsed


def _value(raw: Column, kind: T.DataType, column: ContentColumn, name: str, key: str) -> tuple[Column, Column]:
    """(typed value, reason or null)."""
    is_list = isinstance(kind, T.ArrayType)
    if isinstance(kind, T.MapType | T.StructType) or (is_list and column.kind not in ("categories", "vector")):
        raise SourceError(
            f"{key}: kind: {column.kind} cannot be read from {kind.simpleString()}; choose another column"
        )
    fine = F.lit(None).cast("string")
    if column.kind == "number":
        if isinstance(kind, T.StringType) or column.pattern or column.drop:
            return number_of(_text(raw, column), T.StringType(), name)
        return number_of(raw, kind, name)
    if column.kind in ("category", "text"):
        return _text(raw, column), fine
    texts = raw.cast("array<string>") if is_list else _split(raw.cast("string"), column)
    if column.kind == "categories":
        kept = F.array_distinct(F.filter(F.transform(texts, lambda text: _text(text, column)), lambda v: v.isNotNull()))
        return F.when(F.size(kept) > 0, kept), fine
    numbers = F.transform(texts, lambda text: F.trim(text).try_cast("float"))
    bad = F.exists(numbers, lambda number: number.isNull() | is_not_finite(number))
    problem = F.when(bad, F.lit(f"{name}: a value that is NaN, infinite or not a number"))
    return F.when((F.size(numbers) > 0) & ~bad, numbers), problem


def _text(value: Column, column: ContentColumn) -> Column:
    """Trimmed text: the pattern's group, where there is one; null where empty or dropped."""
    text = F.trim(value.cast("string"))
    if column.pattern:
        text = F.trim(F.regexp_extract(text, column.pattern, 1))
    if column.drop:
        text = F.when(~text.isin(*column.drop), text)
    return _blank_to_null(text)


def _split(text: Column, column: ContentColumn) -> Column:
    """Text to parts: at the separator, else as a JSON list, else a single part."""
    if column.separator:
        return F.split(text, r"\Q" + column.separator + r"\E")
    as_list = F.from_json(text, T.ArrayType(T.StringType()))
    return F.when(F.trim(text).startswith("["), as_list).when(F.trim(text) != "", F.array(text))


def _blank_to_null(text: Column) -> Column:
    return F.when(F.trim(text) != "", text).cast("string")
