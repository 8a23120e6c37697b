"""Overall values of rates and means in the training period, which smoothed statistics start from. [spark]"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import PreferenceOptions
from pipelines.preferences.tallies import WEIGHT_SCALE, denominator, fixed_weight, numerator


def fit_priors(events: DataFrame, before: int, options: PreferenceOptions) -> dict[str, float]:
    """`NAME_rate` and `NAME_mean` of each such statistic over the events that happened and were known before a cut.

    `before` is in UTC microseconds: event_time < before and available_time <= before. 0.0 where no event counts.
    """
    smoothed = [statistic for statistic in options.statistics if statistic.kind in ("rate", "mean")]
    if not smoothed:
        return {}
    columns = []
    for i, statistic in enumerate(smoothed):
        chosen, base = numerator(statistic).condition, denominator(statistic).condition
        if statistic.kind == "mean":
            columns += [F.sum(F.when(chosen, fixed_weight())).alias(f"total_{i}"), F.count_if(chosen).alias(f"n_{i}")]
        else:
            columns += [F.count_if(chosen).alias(f"total_{i}"), F.count_if(base).alias(f"n_{i}")]
    known = events.where((F.col("event_time") < before) & (F.col("available_time") <= before))
    row = known.agg(*columns).collect()[0]
    priors = {}
    for i, statistic in enumerate(smoothed):
        total, n = row[f"total_{i}"] or 0, row[f"n_{i}"]
        scale = WEIGHT_SCALE if statistic.kind == "mean" else 1
        priors[f"{statistic.name}_{statistic.kind}"] = total / scale / n if n else 0.0
    return priors
