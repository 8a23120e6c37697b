"""The quality stage as frames: raw sources in, judged and marked rows and content versions out. Nothing is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.config import Config, ContentSource, utc_microseconds
from pipelines.errors import ConfigError
from pipelines.quality.content import check_content, judge_vectors, judged_content, parse_content
from pipelines.quality.duplicates import mark_copies
from pipelines.quality.parse import JUDGED, parse_interactions
from pipelines.quality.read import read_source
from pipelines.quality.sight import content_in_sight, log_in_sight
from pipelines.quality.sources import labelled_sources
from pipelines.quality.times import check_time
from pipelines.quality.versions import Stream, mark_content_copies, merge_versions, streams
from schemas.columns import ColumnType
from schemas.content import CONTENT_TYPES, Side, content_table
from schemas.interactions import INTERACTIONS, QUARANTINE
from schemas.to_spark import select_contract, spark_schema, spark_type


def check_sources(spark: SparkSession, config: Config) -> None:
    """Raises ConfigError for what is wrong with the sources whatever the data says."""
    if not config.source.interactions:
        raise ConfigError("source.interactions must name at least one log; add one to the configuration")
    for label, source in labelled_sources(config).items():
        if isinstance(source, ContentSource):
            check_content(label, source)
            times = {"valid_from": source.valid_from, "created_at": source.created_at}
        else:
            times = {"event_time": source.event_time, "available_time": source.available_time}
        for name, time in times.items():
            if time:
                check_time(spark, time, f"{label}.{name}")


def content_sources(config: Config) -> dict[str, ContentSource]:
    """The content sources by label."""
    return {label: source for label, source in labelled_sources(config).items() if isinstance(source, ContentSource)}


@dataclass(frozen=True)
class Marked:
    """Every row of some sources, judged, and each copy of another marked."""

    rows: DataFrame
    read: Mapping[str, Sequence[Observation]]
    """Source label -> what counts its rows where they are read."""
    later: Mapping[str, Sequence[Observation]]
    """Source label -> what counts those that had not come into sight, and are in no frame."""


def marked_log(spark: SparkSession, data: str, config: Config) -> Marked:
    """Every row of every log: JUDGED columns and `copy`."""
    raws = {
        f"interactions[{n}]": read_source(spark, data, f"interactions[{n}]", source)
        for n, source in enumerate(config.source.interactions)
    }
    parsed: list[DataFrame] = []
    later: dict[str, list[Observation]] = {}
    for source, (label, found) in zip(config.source.interactions, raws.items(), strict=True):
        for raw in found:
            rows, unseen = log_in_sight(parse_interactions(raw, source, config.quality), config.horizon)
            parsed.append(rows)
            later.setdefault(label, []).extend(unseen)
    empty = T.StructType([*spark_schema(QUARANTINE).fields, *spark_schema(INTERACTIONS).fields])
    judged = reduce(DataFrame.unionByName, parsed) if parsed else spark.createDataFrame([], empty)
    marked = mark_copies(judged.select(*JUDGED), config.quality.event_key)
    return Marked(marked, {label: [raw.read for raw in found] for label, found in raws.items()}, later)


def marked_content(spark: SparkSession, data: str, label: str, config: Config) -> Marked:
    """Every row of one content source: `judged_content` columns and `copy`."""
    source = content_sources(config)[label]
    raws = read_source(spark, data, label, source)
    seen = [content_in_sight(parse_content(raw, source, config.quality), config.horizon) for raw in raws]
    parsed = [rows for rows, _ in seen]
    judged = reduce(DataFrame.unionByName, parsed) if parsed else spark.createDataFrame([], _content_schema(source))
    marked = mark_content_copies(judge_vectors(judged, source), list(source.columns), accumulate=source.accumulate)
    later = [observation for _, unseen in seen for observation in unseen]
    return Marked(marked, {label: [raw.read for raw in raws]}, {label: later})


def interactions(marked: DataFrame) -> DataFrame:
    """The clean log."""
    return select_contract(marked.filter(F.col("reason").isNull() & ~F.col("copy")), INTERACTIONS)


def log_rules(config: Config) -> dict[str, Any]:
    """What the configuration adds to the contract of the log, for its suite of expectations."""
    options = config.quality
    bounds = tuple(
        utc_microseconds(text, f"quality.{name}")
        for name, text in (("earliest", options.earliest), ("latest", options.latest))
    )
    ranges = {"event_time": bounds} | ({"weight": options.weight_range} if options.weight_range else {})
    allowed = {"action": options.actions} if options.actions else {}
    return {"ranges": ranges, "allowed": allowed, "key": options.event_key, "min_rows": 1}


def quarantine(*marked: DataFrame) -> DataFrame:
    """The rows set aside, of all sources."""
    return reduce(
        DataFrame.unionByName,
        [select_contract(rows.filter(F.col("reason").isNotNull()), QUARANTINE) for rows in marked],
    )


def content(spark: SparkSession, side: Side, marked: dict[str, DataFrame], config: Config) -> DataFrame:
    """One side's content table, from its sources' marked rows by label."""
    parts: list[Stream] = []
    for label, source in content_sources(config).items():
        if label.startswith(side):
            accepted = marked[label].filter(F.col("reason").isNull() & ~F.col("copy"))
            parts += streams(accepted, list(source.columns), accumulate=source.accumulate)
    return merge_versions(spark, parts, content_table(side, config.content_kinds(side)))


def count_without_content(log: DataFrame, table: DataFrame, side: Side) -> int:
    """Distinct users or items of the log of which the content table knows nothing."""
    id_column = f"{side}_id"
    return log.select(id_column).distinct().join(table.select(id_column), on=id_column, how="left_anti").count()


def _content_schema(source: ContentSource) -> T.StructType:
    types: dict[str, ColumnType] = {"valid_from": "int64", "created_at": "int64"}
    types |= {name: CONTENT_TYPES[column.kind] for name, column in source.columns.items()}
    return T.StructType([T.StructField(name, spark_type(types.get(name, "string"))) for name in judged_content(source)])
