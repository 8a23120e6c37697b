"""Raw sources as Spark frames, every value as it was written.

What the values mean is left to `parse` and `content`. A row that cannot be cut into columns is kept, as `broken`.
"""

import csv
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.config import ContentSource
from pipelines.errors import SourceError
from pipelines.quality.sources import (
    Source,
    check_columns,
    first_row,
    needed_columns,
    other_separator,
    sample_keys,
    source_files,
)
from pipelines.spark import cannot_open, literal, opens

_CORRUPT = "__broken"


@dataclass(frozen=True)
class Raw:
    """Rows of one source as read."""

    label: str
    """`interactions[0]`, `items[1]`, …"""
    frame: DataFrame
    columns: Mapping[str, Column]
    """Source column -> its raw value: text (CSV, JSON lines) or the file's own type (Parquet)."""
    file: Column
    """File name relative to the data folder."""
    row: Column
    """The whole row as JSON. Costly: evaluate it for bad rows alone."""
    broken: Column
    """Why the row could not be cut into columns, else null."""
    read: Observation
    """Counts `rows` while the frame is computed for the first time."""

    def type_of(self, name: str) -> T.DataType:
        """Spark type of a source column."""
        return self.frame.select(self.columns[name]).schema[0].dataType


def read_source(spark: SparkSession, data: str, label: str, source: Source) -> tuple[Raw, ...]:
    """A source's rows; one `Raw` per distinct header among its files, none where every file is empty.

    Raises SourceError naming a column that is not there, those that are, and the nearest.
    """
    fs, root = fsspec.core.url_to_fs(data)
    files = [file for file in source_files(data, label, source) if fs.size(file)]
    if not files:
        return ()
    if not opens(spark, files[0]):
        raise SourceError(cannot_open(files[0]))
    with readable(label):
        if source.format == "csv":
            return _read_csv(spark, root, label, source, files)
        read = _read_parquet if source.format == "parquet" else _read_jsonl
        return (read(spark, root, label, source, files),)


def _counted(frame: DataFrame) -> tuple[DataFrame, Observation]:
    """The frame, and what will know how many rows it had."""
    observation = Observation()
    return frame.observe(observation, F.count(F.lit(1)).alias("rows")), observation


@contextmanager
def readable(label: str) -> Iterator[None]:
    """Turn an engine's complaint about an unreadable file into a SourceError."""
    try:
        yield
    except (OSError, EOFError, UnicodeError, csv.Error) as error:
        raise SourceError(f"source.{label} cannot be read: {error}; check the file and its encoding") from None
    except (PySparkException, Py4JJavaError) as error:
        text = str(error)
        signs = ("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER", "PARQUET", "CANNOT_MERGE_SCHEMAS", "ILLEGAL_PARQUET")
        if any(sign in text for sign in signs):
            line = next(line for line in text.splitlines() if any(sign in line for sign in signs))
            raise SourceError(
                f"source.{label} cannot be read; check that the file is whole and of the format: {line.strip()[:400]}"
            ) from None
        raise


def _read_csv(spark: SparkSession, root: str, label: str, source: Source, files: Sequence[str]) -> tuple[Raw, ...]:
    separator = source.separator.replace("\\t", "\t")
    if not source.header and not source.names:
        raise SourceError(f"source.{label}: a CSV without header needs its column names; set names: [...]")
    groups: dict[tuple[str, ...], list[str]] = {}
    for file in files:
        first = first_row(file, separator, source.encoding)
        if not first:
            continue
        header = tuple(first) if source.header else source.names or ()
        if not source.header and len(first) != len(header):
            hint = other_separator(first, separator, len(header))
            raise SourceError(
                f"source.{label}: the first line of {file} has {len(first)} columns at separator {separator!r}, "
                f"names lists {len(header)}; {hint or 'correct names or separator'}"
            )
        groups.setdefault(header, []).append(file)
    raws = []
    for header, members in groups.items():
        if not set(needed_columns(source).values()) <= set(header) and (
            hint := other_separator(header, separator, 2, set(needed_columns(source).values()))
        ):
            raise SourceError(f"source.{label}: {members[0]} is not separated by {separator!r}; {hint}")
        check_columns(label, source, header, members[0])
        names = [f"c{n}" for n in range(len(header))]
        frame = (
            spark.read.schema(T.StructType([T.StructField(name, T.StringType()) for name in [*names, _CORRUPT]]))
            .option("sep", separator)
            .option("header", source.header)
            .option("encoding", source.encoding)
            .option("quote", '"')
            .option("escape", '"')  # RFC 4180: a quote within quotes is doubled
            .option("columnNameOfCorruptRecord", _CORRUPT)
            # A catalogue's texts may hold line breaks within quotes; a log is a line an event, and can be split.
            .option("multiLine", isinstance(source, ContentSource))
            .csv([literal(file) for file in members])
        )
        frame, read = _counted(frame)
        whole = F.to_json(
            F.struct(*[F.col(name).alias(column) for name, column in zip(names, header, strict=True)]),
            {"ignoreNullFields": "false"},
        )
        line = F.to_json(F.struct(F.col(_CORRUPT).alias("line")))
        # The first of equal names counts; one that is needed may not repeat (checked above).
        columns = {column: F.col(name) for name, column in reversed(list(zip(names, header, strict=True)))}
        corrupt = F.col(_CORRUPT).isNotNull()
        raws.append(
            Raw(
                label,
                frame,
                columns,
                _file_name(root),
                F.when(corrupt, line).otherwise(whole),
                F.when(corrupt, F.lit(f"row: not {len(header)} columns at separator {separator!r}")),
                read,
            )
        )
    return tuple(raws)


def _read_parquet(spark: SparkSession, root: str, label: str, source: Source, files: Sequence[str]) -> Raw:
    reader = spark.read.option("mergeSchema", True)
    fs, _ = fsspec.core.url_to_fs(files[0])
    folder = posixpath.join(root, source.path)
    if fs.isdir(folder):
        reader = reader.option("basePath", fs.unstrip_protocol(folder))  # day=2024-01-01/ gives a column `day`
    types = {field.name: field.type for file in files for field in _parquet_schema(file)}
    nanos = {name: kind for name, kind in types.items() if pa.types.is_timestamp(kind) and kind.unit == "ns"}
    if nanos:  # what pandas writes; Spark has no such type and would refuse the file
        spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    frame, read = _counted(reader.parquet(*[literal(file) for file in files]))
    check_columns(label, source, frame.columns, files[0])
    columns = {name: F.col("`" + name.replace("`", "``") + "`") for name in frame.columns}
    for name, kind in nanos.items():
        moment = F.timestamp_micros(F.floor(columns[name].try_cast("decimal(20,0)") / 1_000).cast("bigint"))
        columns[name] = (moment if kind.tz else moment.cast("timestamp_ntz")).alias(name)
    row = F.to_json(F.struct(*columns.values()), {"ignoreNullFields": "false"})
    return Raw(label, frame, columns, _file_name(root), row, F.lit(None).cast("string"), read)


def _parquet_schema(file: str) -> Any:
    """A file's Arrow schema. Raises SourceError where it is not Parquet."""
    with fsspec.open(file, "rb") as binary:
        try:
            return pq.read_schema(binary)
        except pa.ArrowException as error:
            raise SourceError(
                f"{file} is not a Parquet file; set the source's format to what it is ({error})"
            ) from None


def _read_jsonl(spark: SparkSession, root: str, label: str, source: Source, files: Sequence[str]) -> Raw:
    text = spark.read.text([literal(file) for file in files]).filter(F.trim("value") != "")
    needed = list(dict.fromkeys(needed_columns(source).values()))
    seen, lines = sample_keys(files)
    if lines and not seen:
        raise SourceError(
            f"source.{label}: every line of JSON lines must be an object, {files[0]} has none; set format"
        )
    if seen and not set(needed) <= set(seen):  # a rare key may be missing from a sample, not from the whole log
        keys = text.select(F.explode(F.json_object_keys("value")).alias("key")).distinct().collect()
        check_columns(label, source, sorted({*seen, *(row["key"] for row in keys)}), files[0])
    schema = T.StructType([T.StructField(name, T.StringType()) for name in [*needed, _CORRUPT]])
    parsed = F.from_json("value", schema, {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT})
    frame, read = _counted(text.select("value", F.col("_metadata.file_path").alias("path"), parsed.alias("parsed")))
    columns = {name: F.col("parsed").getField(name) for name in needed}
    bad = F.col("parsed").isNull() | F.col("parsed").getField(_CORRUPT).isNotNull()
    row = F.when(bad, F.to_json(F.struct(F.col("value").alias("line")))).otherwise(F.col("value"))
    broken = F.when(bad, F.lit("row: not a JSON object"))
    return Raw(label, frame, columns, _file_name(root, "path"), row, broken, read)


def _file_name(root: str, path: str = "_metadata.file_path") -> Column:
    """The file relative to the data folder, from the address that Spark reports."""
    decoded = F.try_url_decode(F.replace(F.col(path), F.lit("+"), F.lit("%2B")))
    bare = F.regexp_replace(decoded, "^[a-z0-9]+:/*", "")
    inside = root.strip("/") + "/"
    return F.when(bare.startswith(inside), F.substring(bare, len(inside) + 1, 1 << 20)).otherwise(bare)
