"""What the built examples are, in numbers: rows, positives and cold rows by split, what was dropped, what is odd."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.quality.profile import Scan
from schemas.examples import SPLITS


def count_examples(scan: Scan, logged: DataFrame) -> dict[str, Any]:
    """Facts of a built dataset: `splits` and `notes` (sentences for people).

    `scan` is of the written table, `logged` the counts of `build.Built`.
    """
    immature = logged.where(~F.col("mature")).groupBy("split").agg(F.sum("n").alias("n")).collect()
    dropped = {row["split"]: row["n"] for row in immature}
    splits = {name: {**scan.splits.get(name, {}), "dropped_immature": dropped.get(name, 0)} for name in SPLITS}
    notes = [f"every example is of one {side}: nothing can be learned from how {side}s differ" for side in scan.single]
    return {"splits": splits, "notes": notes}
