"""Copies of one event: the one available first stays. What is a copy is configured: `quality.event_key`."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from schemas.interactions import INTERACTIONS


def mark_copies(judged: DataFrame, event_key: Sequence[str]) -> DataFrame:
    """`judged` with `copy`: true for every good row but the first of its event key.

    First is by available_time; ties go by every other column, so that the rows' order and partitions do not matter.
    """
    bad = F.col("reason").isNotNull()
    rest = [name for name in ("event_time", *INTERACTIONS.names) if name not in event_key]
    order = ["available_time", *[name for name in dict.fromkeys(rest) if name != "available_time"], "source"]
    # Bad rows have no key worth the name: their own hash spreads them, and they are never compared with good ones.
    spread = F.when(bad, F.xxhash64("row")).otherwise(F.lit(0))
    of_event = Window.partitionBy(bad, spread, *event_key).orderBy(*order)
    return judged.withColumn("copy", ~bad & (F.row_number().over(of_event) > 1))
