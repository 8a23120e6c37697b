"""Content as it was: the version in effect at each row's time. [spark]"""

from collections.abc import Mapping

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def attach_content(
    rows: DataFrame, versions: DataFrame, *, id: str, time: str, columns: Mapping[str, str]
) -> DataFrame:
    """Adds `columns` (column of `versions` -> name) from the version with the largest valid_from <= `time`.

    `versions` is unique by (`id`, valid_from). Where no version applies yet the columns are null; a null within the
    version that applies stays null. One sort of rows and versions together: linear however often an id occurs.
    """
    if not columns:
        return rows
    version = F.struct(*(F.col(source).alias(name) for source, name in columns.items()))
    dated = versions.select(
        F.col(id).alias("id"), F.col("valid_from").alias("time"), F.lit(0).alias("turn"), version.alias("version")
    )
    asking = rows.select(
        F.col(id).alias("id"), F.col(time).alias("time"), F.lit(1).alias("turn"), F.struct(*rows.columns).alias("row")
    )
    # A version from the row's own time on has its turn first.
    so_far = Window.partitionBy("id").orderBy("time", "turn").rowsBetween(Window.unboundedPreceding, 0)
    return (
        dated.unionByName(asking, allowMissingColumns=True)
        .withColumn("version", F.last("version", ignorenulls=True).over(so_far))
        .where(F.col("turn") == 1)
        .select("row.*", *(F.col(f"version.{name}").alias(name) for name in columns.values()))
    )
