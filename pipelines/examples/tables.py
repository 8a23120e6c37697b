"""What examples are made of and how intermediate frames are kept."""

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame

Keep = Callable[[DataFrame], DataFrame]
"""Gives the same rows back, perhaps computed and stored, where more than one frame is made of them."""


@dataclass(frozen=True)
class Tables:
    """The clean tables that examples are made of."""

    interactions: DataFrame
    items: DataFrame
    users: DataFrame


def lazily(frame: DataFrame) -> DataFrame:
    """The frame itself: it is computed anew for each use."""
    return frame
