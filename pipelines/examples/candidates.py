"""The catalogue as it stood: what a validation or test example may rank, and what training draws negatives from.

Evaluation's clocks are distinct (as_of, known_by) of held-out positives, the others of training examples. How
candidates are ranked is left to evaluation, how negatives are drawn to training.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipelines.config import Config, PreferenceOptions, StatisticOptions
from pipelines.examples.labels import positive_condition
from pipelines.examples.sampling import keyed_hash
from pipelines.examples.sides import NO_VERSION
from pipelines.features import statistic_names
from pipelines.preferences.clock import CLOCK
from pipelines.preferences.join import attach_statistics
from schemas.preferences import LIFETIME

FOREVER = 2**63 - 1


def evaluation_clocks(examples: DataFrame, config: Config) -> DataFrame:
    """Clocks (as_of, known_by) of held-out positives and `last`, the time of the latest such example of each.

    At most evaluation.max_clocks a split, chosen by keyed hash. `examples` needs as_of, known_by, event_time, label,
    split.
    """
    held_out = examples.where((F.col("label") == 1) & (F.col("split") != "train"))
    clocks = held_out.groupBy("split", *CLOCK).agg(F.max("event_time").alias("last"))
    by_hash = Window.partitionBy("split").orderBy(keyed_hash(config.seed, "clocks", *CLOCK), *CLOCK)
    chosen = (
        clocks.withColumn("_place", F.row_number().over(by_hash))
        .withColumn("_last", F.max("last").over(Window.partitionBy(*CLOCK)))
        .where(F.col("_place") <= config.evaluation.max_clocks)
    )
    return chosen.groupBy(*CLOCK).agg(F.max("_last").alias("last"))


def training_clocks(examples: DataFrame, config: Config) -> DataFrame:
    """Clocks (as_of, known_by) of training examples: by keyed hash one of each of catalogue.clocks equal stretches.

    `examples` needs as_of, known_by, split.
    """
    clocks = examples.where(F.col("split") == "train").select(*CLOCK).distinct()
    stretch = F.ntile(config.catalogue.clocks).over(Window.orderBy(*CLOCK))
    by_hash = Window.partitionBy("_stretch").orderBy(keyed_hash(config.seed, "catalogue clocks", *CLOCK), *CLOCK)
    chosen = clocks.withColumn("_stretch", stretch).withColumn("_place", F.row_number().over(by_hash))
    return chosen.where(F.col("_place") == 1).select(*CLOCK)


def catalogue_at(clocks: DataFrame, versions: DataFrame, config: Config) -> DataFrame:
    """Each clock's sample, by keyed hash, of the items that existed at known_by, in the version then in effect.

    What is chosen rests on nothing later than known_by. With the columns of `versions` and the clock's.
    """
    options = config.catalogue
    known_by = F.col("known_by")
    there = (F.col("in_effect_from") <= known_by) & (F.col("in_effect_to") > known_by)
    by_hash = Window.partitionBy(*CLOCK).orderBy(keyed_hash(config.seed, "catalogue", "item_id", *CLOCK), "item_id")
    placed = versions.join(F.broadcast(clocks), there, how="inner").withColumn("_place", F.row_number().over(by_hash))
    return placed.where(F.col("_place") <= -(-options.rows // options.clocks)).drop("_place")


def versions_in_effect(items: DataFrame, exists: DataFrame) -> DataFrame:
    """Every item in `exists` with its content versions and the interval of existence that each covers.

    Columns: item_id, _item_version, exists_from, in_effect_from, in_effect_to. An item that exists before its first
    version, or has none, has an interval of NO_VERSION.
    """
    later = Window.partitionBy("item_id").orderBy("_item_version")
    dated = items.select("item_id", F.col("valid_from").alias("_item_version"))
    before_all = exists.select("item_id", F.lit(NO_VERSION).alias("_item_version"))
    return (
        dated.union(before_all)
        .withColumn("in_effect_to", F.coalesce(F.lead("_item_version").over(later), F.lit(FOREVER)))
        .join(exists, "item_id", how="inner")
        .withColumn("in_effect_from", F.greatest("exists_from", "_item_version"))
        .where(F.col("in_effect_from") < F.col("in_effect_to"))
    )


def candidates_at(clocks: DataFrame, versions: DataFrame) -> DataFrame:
    """Each clock's candidates: versions in effect at some moment from as_of to the clock's last example."""
    overlaps = (F.col("in_effect_from") <= F.col("last")) & (F.col("in_effect_to") > F.col("as_of"))
    return versions.join(F.broadcast(clocks), overlaps, how="inner").drop("last")


def attach_past_positives(candidates: DataFrame, interactions: DataFrame, config: Config) -> DataFrame:
    """Adds past_positives: the item's positive events known at the clock."""
    options = PreferenceOptions(statistics=(StatisticOptions(name="positive", kind="count"),), windows=(LIFETIME,))
    (count,) = statistic_names("item", options)
    counted = attach_statistics(
        candidates,
        interactions.where(positive_condition(config)),
        key="item_id",
        entity="item",
        options=options,
        priors={},
    )
    return counted.withColumn("past_positives", F.coalesce(F.col(count), F.lit(0.0)).cast("long")).drop(count)
