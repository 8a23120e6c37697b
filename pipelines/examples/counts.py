"""What the built examples are, in numbers: rows, positives and cold rows by split, what was dropped, what is odd."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.examples import SPLITS


def count_examples(examples: DataFrame, logged: DataFrame) -> dict[str, Any]:
    """Facts of a built dataset: `splits` and `notes` (sentences for people).

    `examples` is the written table, `logged` the counts of `build.Built`.
    """
    one = F.col("label") == 1
    rows = (
        examples.groupBy("split")
        .agg(
            F.count("*").alias("rows"),
            F.count_if(one).alias("positives"),
            F.count_if(one & F.col("cold_user")).alias("cold_user_positives"),
            F.count_if(one & F.col("cold_item")).alias("cold_item_positives"),
            F.count_if(one & F.col("cold_user") & F.col("cold_item")).alias("cold_both_positives"),
            F.count_if(F.col("negative_index") > 0).alias("drawn_negatives"),
        )
        .collect()
    )
    dropped = {
        row["split"]: row["n"]
        for row in logged.where(~F.col("mature")).groupBy("split").agg(F.sum("n").alias("n")).collect()
    }
    found = {row["split"]: row.asDict() for row in rows}
    splits = {
        name: {
            **{k: v for k, v in found.get(name, {}).items() if k != "split"},
            "dropped_immature": dropped.get(name, 0),
        }
        for name in SPLITS
    }
    return {"splits": splits, "notes": _notes(examples)}


def _notes(examples: DataFrame) -> list[str]:
    """What is allowed but worth saying."""
    notes = []
    for side in ("user", "item"):
        if examples.select(f"{side}_id").distinct().limit(2).count() == 1:
            notes.append(f"every example is of one {side}: nothing can be learned from how {side}s differ")
    return notes
