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
    # A struct, so that a null within a version is not taken for no version.
    version = F.struct(*(F.col(source).alias(name) for source, name in columns.items()))
    # One number says when and who has the first turn: at equal times the version. One column sorts faster than two.
    dated = versions.select(F.col(id).alias("id"), F.shiftleft("valid_from", 1).alias("turn"), version.alias("version"))
    given = {name: f"row_{place}" for place, name in enumerate(rows.columns) if name not in (id, time)}
    asking = rows.select(
        F.col(id).alias("id"),
        F.shiftleft(time, 1).bitwiseOR(F.lit(1)).alias("turn"),
        *(F.col(name).alias(alias) for name, alias in given.items()),
    )
    back = {id: F.col("id"), time: F.shiftright("turn", 1), **{name: F.col(alias) for name, alias in given.items()}}
    so_far = Window.partitionBy("id").orderBy("turn").rowsBetween(Window.unboundedPreceding, 0)
    return (
        dated.unionByName(asking, allowMissingColumns=True)
        .withColumn("version", F.last("version", ignorenulls=True).over(so_far))
        .where(F.col("turn").bitwiseAND(F.lit(1)) == 1)
        .select(
            *(back[name].alias(name) for name in rows.columns),
            *(F.col(f"version.{name}").alias(name) for name in columns.values()),
        )
    )
