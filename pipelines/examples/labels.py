"""Which events become examples, with what label, and from when on that label could be known.

Drawing negatives is left to `negatives`, splits to `splits`, features to `build`.

A label closes at `label_time`, and only what was available by then decides it, so that a label is what could be
known at the time, however late the rest of the log comes in:

* impressions: label_time = max(t + label_window + arrival bound, the impression's own available_time); the label is 1
  when the same user acted positively on the same item at t <= event_time <= t + label_window, available by label_time.
  An action at the very instant of the impression counts: logs of whole seconds would lose their clicks otherwise.
  Several impressions may be followed by one action; each of them gets its 1.
* threshold and sampled: label_time = available_time.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.config import Config, parse_duration
from pipelines.errors import ConfigError
from schemas.interactions import INTERACTIONS

LABELLED = (
    "example_id",
    "user_id",
    "item_id",
    "event_time",
    "action",
    "label",
    "weight",
    "label_time",
    "negative_index",
)
"""Columns of a labelled event. `weight` is the sample weight, 1 for every example."""


def positive_condition(config: Config) -> Column:
    """True for events that say yes: a positive action and, by the threshold rule, of at least that weight."""
    condition = F.col("action").isin(*config.labels.positive_actions)
    if config.labels.rule == "threshold":
        condition = condition & (F.col("weight") >= config.labels.threshold)
    return condition


def arrival_bound_us(config: Config) -> int:
    """How long after it happened an event may still arrive and close a label, in microseconds.

    The largest configured availability_lag; for a source that logs available_time, preferences.landing_delay.
    """
    return max(
        (
            parse_duration(config.preferences.landing_delay if source.available_time else source.availability_lag)
            for source in config.source.interactions
        ),
        default=0,
    )


def labelled_events(interactions: DataFrame, config: Config) -> DataFrame:
    """One row per event that becomes an example, with the columns of `LABELLED`. Nothing is sampled or dropped yet.

    Raises ConfigError where the rule's actions contradict each other.
    """
    if config.labels.rule == "impressions":
        labelled = _impressions(interactions, config)
    else:
        acted = interactions.where(F.col("action").isin(*config.labels.positive_actions))
        threshold = config.labels.rule == "threshold"
        label = (F.col("weight") >= config.labels.threshold).cast("float") if threshold else F.lit(1.0).cast("float")
        labelled = acted.withColumns({"label": label, "label_time": F.col("available_time")})
    return (
        labelled.withColumn("negative_index", F.lit(0).cast("long"))
        .withColumn("example_id", example_id(key_columns(config)))
        .withColumn("weight", F.lit(1.0).cast("float"))
        .select(*LABELLED)
    )


def key_columns(config: Config) -> list[str]:
    """The columns that name an example: the event's key and the negative's index."""
    extra = [name for name in config.quality.event_key if name not in INTERACTIONS.key]
    return [*INTERACTIONS.key, *extra, "negative_index"]


def example_id(columns: Sequence[str | Column]) -> Column:
    """First 32 hex digits of the SHA-256 of `columns`, each written as its length, a colon and its text.

    >>> # ("u1", "i10", 5, "click", 0) is hashed as "2:u13:i101:55:click1:0"
    """
    texts = [(F.col(c) if isinstance(c, str) else c).cast("string") for c in columns]
    parts = [F.concat(F.length(text).cast("string"), F.lit(":"), text) for text in texts]
    return F.substring(F.sha2(F.concat(*parts), 256), 1, 32)


def _impressions(interactions: DataFrame, config: Config) -> DataFrame:
    """Impressions with label and label_time, in one shuffle: the earliest arrival of a positive within the window."""
    shown, positives = config.labels.impression_action, config.labels.positive_actions
    if shown in positives:
        raise ConfigError(
            f"labels.impression_action must not be a positive action, got {shown!r} among {list(positives)}; "
            "take it out of labels.positive_actions or choose another rule"
        )
    window = parse_duration(config.labels.label_window)
    following = Window.partitionBy("user_id", "item_id").orderBy("event_time").rangeBetween(0, window)
    earliest = F.min(F.when(F.col("action").isin(*positives), F.col("available_time"))).over(following)
    closes = F.col("event_time") + F.lit(window + arrival_bound_us(config))
    return (
        interactions.where(F.col("action").isin(shown, *positives))
        .withColumn("_earliest", earliest)
        .where(F.col("action") == shown)
        .withColumn("label_time", F.greatest(closes, F.col("available_time")))
        .withColumn("label", F.coalesce(F.col("_earliest") <= F.col("label_time"), F.lit(False)).cast("float"))
    )
