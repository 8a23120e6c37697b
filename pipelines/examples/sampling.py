"""Seeded choices by keyed hash: a function of the row's key and the seed, never of a row's place or of other rows."""

from pyspark.sql import Column
from pyspark.sql import functions as F


def keyed_hash(seed: int, purpose: str, *columns: str) -> Column:
    """64-bit hash of `columns`, another one for each seed and purpose."""
    return F.xxhash64(F.lit(f"{seed}:{purpose}"), *columns)


def keyed_share(seed: int, purpose: str, *columns: str) -> Column:
    """The same hash as a number in [0, 1): rows where it lies below s are a sample of share s."""
    return F.shiftrightunsigned(keyed_hash(seed, purpose, *columns), 11) / F.lit(float(1 << 53))
