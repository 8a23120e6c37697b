"""Content rows to versions: the row with the largest `valid_from` <= t applies, and holds all that is known then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from schemas.columns import Table
from schemas.to_spark import select_contract, spark_schema, spark_type

CONFLICT = "valid_from: another row of this id says otherwise at the same time"


@dataclass(frozen=True)
class Stream:
    """Versions of some content columns, unique by (id, valid_from)."""

    frame: DataFrame
    """id, valid_from, created_at, title and the columns."""
    columns: tuple[str, ...]


def mark_content_copies(judged: DataFrame, columns: Sequence[str], *, accumulate: bool) -> DataFrame:
    """`judged` with `copy`, and CONFLICT as the reason of rows that contradict another of the same (id, valid_from).

    The smallest by value stays; rows equal to it are copies. Where rows accumulate, different ones do not contradict.
    """
    bad = F.col("reason").isNotNull()
    values = F.to_json(F.struct("created_at", "title", *columns))
    spread = F.when(bad, F.xxhash64("row")).otherwise(F.lit(0))
    version = ["id", "valid_from", *(["__values"] if accumulate else [])]
    of_version = Window.partitionBy(bad, spread, *version).orderBy("__values", "source", "file", "row")
    marked = (
        judged.withColumn("__values", values)
        .withColumn("__later", ~bad & (F.row_number().over(of_version) > 1))
        .withColumn("__same", F.col("__values") == F.first("__values").over(of_version))
    )
    conflict = F.col("__later") & ~F.col("__same")
    return marked.select(
        *[F.col(name) for name in judged.columns if name != "reason"],
        F.when(conflict, F.lit(CONFLICT)).otherwise(F.col("reason")).alias("reason"),
        (F.col("__later") & F.col("__same")).alias("copy"),
    )


def streams(accepted: DataFrame, columns: Sequence[str], *, accumulate: bool) -> list[Stream]:
    """A source's good rows as version streams: one, or one per column where rows accumulate."""
    if not accumulate:
        return [Stream(accepted.select("id", "valid_from", "created_at", "title", *columns), tuple(columns))]
    return [Stream(_accumulated(accepted, column), (column,)) for column in columns]


def _accumulated(accepted: DataFrame, column: str) -> DataFrame:
    """The set of categories known at each time a new one came, first seen first, ties by value."""
    since = accepted.select("id", "valid_from", F.explode(column).alias("value")).groupBy("id", "value")
    pairs = F.array_sort(F.collect_list(F.struct("since", "value"))).alias("pairs")
    known = since.agg(F.min("valid_from").alias("since")).groupBy("id").agg(pairs)
    times = F.array_distinct(F.transform("pairs", lambda pair: pair["since"]))
    by_then = F.filter("pairs", lambda pair: pair["since"] <= F.col("valid_from"))
    return known.select("id", "pairs", F.explode(times).alias("valid_from")).select(
        "id",
        "valid_from",
        F.lit(None).cast("bigint").alias("created_at"),
        F.lit(None).cast("string").alias("title"),
        F.transform(by_then, lambda pair: pair["value"]).alias(column),
    )


def merge_versions(spark: SparkSession, parts: Sequence[Stream], table: Table) -> DataFrame:
    """All streams of a side as one table: a version per (id, time) at which any changed, each filled forward.

    A stream's newer version replaces its older one whole, with what it leaves missing; it never touches another's.
    """
    id_column = table.columns[0].name
    if not parts:
        return spark.createDataFrame([], spark_schema(table))
    if len(parts) == 1:
        return _contract(parts[0].frame, {name: F.col(name) for name in parts[0].frame.columns}, table, id_column)
    slots = [f"s{n}" for n in range(len(parts))]
    tagged = None
    for n, part in enumerate(parts):
        known = F.struct("created_at", "title", *part.columns)
        ours = part.frame.select("id", "valid_from", known.alias(slots[n]))
        tagged = ours if tagged is None else tagged.unionByName(ours, allowMissingColumns=True)
    assert tagged is not None
    moments = tagged.groupBy("id", "valid_from").agg(*[F.first(s, ignorenulls=True).alias(s) for s in slots])
    so_far = Window.partitionBy("id").orderBy("valid_from").rowsBetween(Window.unboundedPreceding, 0)
    filled = moments.select("id", "valid_from", *[F.last(s, ignorenulls=True).over(so_far).alias(s) for s in slots])
    values = {name: F.coalesce(*[F.col(s)[name] for s in slots]) for name in ("created_at", "title")}
    values |= {"id": F.col("id"), "valid_from": F.col("valid_from")}
    values |= {name: F.col(slot)[name] for slot, part in zip(slots, parts, strict=True) for name in part.columns}
    return _contract(filled, values, table, id_column)


def _contract(frame: DataFrame, values: Mapping[str, Column], table: Table, id_column: str) -> DataFrame:
    chosen = {id_column: values["id"], **values}
    missing = {c.name: F.lit(None).cast(spark_type(c.type)) for c in table if c.name not in chosen}
    return select_contract(frame.select(*[(chosen | missing)[name].alias(name) for name in table.names]), table)
