"""Whether the priors are those of the training period: what is fitted elsewhere is held fixed everywhere else."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config, StatisticOptions
from pipelines.examples.audit.oracle import WEIGHT_UNITS
from pipelines.examples.audit.recheck import same
from pipelines.examples.audit.report import Check, merged, mismatch
from schemas.fitted import Fitted


def check_priors(interactions: DataFrame, config: Config, fitted: Fitted) -> Check:
    """Recompute every prior from the events that happened and were available before validation starts."""
    start = fitted.cuts.validation_start
    known = interactions.where((F.col("event_time") < start) & (F.col("available_time") <= start))
    smoothed = [s for s in config.preferences.statistics if s.kind in ("rate", "mean")]
    expected: dict[str, float] = {}
    if smoothed:
        row = known.agg(*[_prior(s).alias(f"{s.name}_{s.kind}") for s in smoothed]).collect()[0]
        expected = {name: value or 0.0 for name, value in row.asDict().items()}
    names = sorted({*expected, *fitted.priors})
    pairs = [(name, fitted.priors.get(name), expected.get(name)) for name in names]
    broken = [mismatch("fitted state", name, found, right) for name, found, right in pairs if not same(found, right)]
    return merged("priors", "fitted", len(names), broken, "those of the training period")


def _prior(statistic: StatisticOptions) -> Column:
    """The statistic's overall value, null without events."""
    hits = F.lit(True) if statistic.actions is None else F.col("action").isin(*statistic.actions)
    if statistic.min_weight is not None:
        hits = hits & (F.col("weight") >= statistic.min_weight)
    if statistic.kind == "mean":
        return F.avg(F.when(hits, F.rint(F.col("weight") * WEIGHT_UNITS) / F.lit(WEIGHT_UNITS)))
    base = F.lit(True) if statistic.of_actions is None else F.col("action").isin(*statistic.of_actions)
    return F.try_divide(F.count_if(hits).cast("double"), F.count_if(base).cast("double"))
