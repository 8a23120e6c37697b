"""From when on an item exists. What may be drawn or ranked because of it is left to `negatives` and `candidates`."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.columns import TIME_MIN_US
from schemas.examples import EXISTS
from schemas.to_spark import select_contract


def exists_from(items: DataFrame, interactions: DataFrame) -> DataFrame:
    """When each item of the catalogue or the log came into being (`schemas.examples.EXISTS`).

    The earliest of three: created_at, the first dated version, and the first availability of an event. Each proves
    existence whatever the others say, and a later row never moves it to a later time. An item with none (an undated
    catalogue row, no event) is left out: nothing says that it was there at any time, so it is never drawn or ranked,
    and its first event, once it comes, changes nothing before it.
    """
    dated = F.when(F.col("valid_from") > TIME_MIN_US, F.col("valid_from"))
    listed = items.groupBy("item_id").agg(F.least(F.min("created_at"), F.min(dated)).alias("_listed"))
    seen = interactions.groupBy("item_id").agg(F.min("available_time").alias("_seen"))
    earliest = F.least("_listed", "_seen")  # least skips nulls
    found = listed.join(seen, "item_id", how="full").withColumn("exists_from", earliest)
    return select_contract(found.where(F.col("exists_from").isNotNull()), EXISTS)
