"""What a run as of a moment may see of its sources: rows that came later are left out, as if they were not there yet.

A row without a readable time belongs to no day, so it stays, for the quarantine.
"""

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from pipelines.config import Horizon
from schemas.columns import TIME_MIN_US


def log_in_sight(judged: DataFrame, horizon: Horizon | None) -> tuple[DataFrame, list[Observation]]:
    """Judged rows of a log that had come into sight, and what counts the others as `rows`."""
    if horizon is None:
        return judged, []
    late = (F.col("event_time") >= horizon.as_of) | (F.col("available_time") > horizon.known_by)
    return _without(judged, late)


def content_in_sight(judged: DataFrame, horizon: Horizon | None) -> tuple[DataFrame, list[Observation]]:
    """Judged rows of content that were valid by then, and what counts the others as `rows`.

    A row says from when it applies, else when what it describes came into being; one that says neither always was.
    """
    if horizon is None:
        return judged, []
    undated = F.col("valid_from") == F.lit(TIME_MIN_US)
    since = F.when(undated, F.coalesce("created_at", "valid_from")).otherwise(F.col("valid_from"))
    return _without(judged, since > horizon.known_by)


def events_of_last_period(log: DataFrame, horizon: Horizon, period_us: int) -> int:
    """How many events of the clean log happened in the period that ends at the moment."""
    return log.where(F.col("event_time") >= horizon.as_of - period_us).count()


def _without(judged: DataFrame, late: Column) -> tuple[DataFrame, list[Observation]]:
    is_late = F.coalesce(late, F.lit(False))
    unseen = Observation()
    counted = judged.observe(unseen, F.count_if(is_late).alias("rows"))
    return counted.where(~is_late), [unseen]
