"""What examples are made of and how intermediate frames are kept."""

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from pipelines.config import Config
from pipelines.spark import read_table
from pipelines.storage import Dataset
from schemas.content import content_table
from schemas.interactions import INTERACTIONS

Keep = Callable[[DataFrame], DataFrame]
"""Gives the same rows back, perhaps computed and stored, where more than one frame is made of them."""


@dataclass(frozen=True)
class Tables:
    """The clean tables that examples are made of."""

    interactions: DataFrame
    items: DataFrame
    users: DataFrame


def clean_tables(spark: SparkSession, clean: Dataset, config: Config) -> Tables:
    """The published clean tables as frames."""
    return Tables(
        read_table(spark, clean, "interactions", INTERACTIONS),
        read_table(spark, clean, "items", content_table("item", config.content_kinds("item"))),
        read_table(spark, clean, "users", content_table("user", config.content_kinds("user"))),
    )


def lazily(frame: DataFrame) -> DataFrame:
    """The frame itself: it is computed anew for each use."""
    return frame
