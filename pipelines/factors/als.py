"""Implicit alternating least squares by Spark MLlib: positives of the training period to a vector a user and an item.

What the vectors are used for is left to training (targets, inputs) and evaluation (a baseline). [spark]
"""

from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipelines.config import Config, FactorOptions, utc_microseconds
from pipelines.errors import ConfigError, InputError
from pipelines.examples.labels import positive_condition
from schemas.content import Side
from schemas.factors import factor_table
from schemas.fitted import Cuts
from schemas.to_spark import select_contract


def fitted_until(options: FactorOptions, cuts: Cuts) -> int:
    """The time before which the factors' positives lie, UTC microseconds: `factors.until`, else the training's end.

    Raises ConfigError where it lies after the training's end.
    """
    until = cuts.validation_start if options.until is None else utc_microseconds(options.until, "factors.until")
    if until > cuts.validation_start:
        raise ConfigError(
            f"factors must be fitted on the training period alone, got factors.until {options.until}, which lies after "
            "the start of validation; set an earlier time, or leave it out"
        )
    return until


def training_positives(interactions: DataFrame, config: Config, until: int) -> DataFrame:
    """Distinct (user_id, item_id) of the positive events that happened before `until` and were known by then."""
    known = (F.col("event_time") < until) & (F.col("available_time") <= until)
    return interactions.where(positive_condition(config) & known).select("user_id", "item_id").distinct()


def fit_factors(positives: DataFrame, options: FactorOptions, seed: int) -> dict[Side, DataFrame]:
    """Side -> its factors (`factor_table`), from distinct pairs. Each pair has confidence 1 + alpha.

    Hu, Koren and Volinsky (Collaborative filtering for implicit feedback datasets, ICDM 2008), with the regularisation
    weighted by the number of positives. Ids are numbered in their order, pairs sorted and put into one block, so that
    the vectors are the same to the bit whatever the order and the partitions of `positives`. Several blocks are solved
    side by side; Spark then adds up their parts in the order in which they arrive, and last digits may differ. Raises
    InputError where there is no pair.
    """
    numbers = {side: _numbered(positives.select(f"{side}_id").distinct(), side) for side in ("user", "item")}
    pairs = positives
    for numbered in numbers.values():
        pairs = pairs.join(numbered, numbered.columns[0])
    ratings = pairs.select("user", "item", F.lit(1.0).cast("float").alias("rating"))
    ratings = ratings.repartition(options.blocks, "user").sortWithinPartitions("user", "item").persist()
    try:
        if ratings.isEmpty():
            raise InputError(
                "factors need positive events in the training period, there are none; check labels.positive_actions "
                "and factors.until"
            )
        model = ALS(
            rank=options.rank,
            maxIter=options.iterations,
            regParam=options.regularisation,
            alpha=options.alpha,
            implicitPrefs=True,
            numUserBlocks=options.blocks,
            numItemBlocks=options.blocks,
            userCol="user",
            itemCol="item",
            ratingCol="rating",
            seed=seed,
            checkpointInterval=5,
        ).fit(ratings)
    finally:
        ratings.unpersist()
    found: dict[Side, DataFrame] = {"user": model.userFactors, "item": model.itemFactors}
    return {
        side: select_contract(
            factors.withColumnsRenamed({"id": side, "features": "factor"}).join(numbers[side], side), factor_table(side)
        )
        for side, factors in found.items()
    }


def _numbered(ids: DataFrame, side: str) -> DataFrame:
    """SIDE_id with `SIDE`, its place from 0 in the order of ids: MLlib takes 32-bit numbers alone."""
    return ids.withColumn(side, (F.row_number().over(Window.orderBy(f"{side}_id")) - 1).cast("int"))
