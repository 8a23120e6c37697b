"""Spark MLlib's implicit ALS, in a process of its own: Spark and TensorFlow share none.

`python -m benchmarks._citeulike_als FOLDER` reads FOLDER/train.npz (a sparse matrix) and leaves FOLDER/factors.npz.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from benchmarks._citeulike import Floats

RANK, ALPHA, ITERATIONS, REGULARISATION = 200, 10.0, 15, 0.1


def als_factors(train: Any, folder: Path) -> tuple[Floats, Floats]:
    """(users, 200), (items, 200): zeros for whoever has no pair. What lies in `folder` from the same pairs is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "factors.npz"
    if not made.exists() or (sparse.load_npz(folder / "train.npz") != train).nnz:
        made.unlink(missing_ok=True)
        sparse.save_npz(folder / "train.npz", train)
        environment = os.environ | {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
        subprocess.run([sys.executable, "-m", __spec__.name, str(folder)], check=True, env=environment)
    with np.load(made) as factors:
        return factors["user"], factors["item"]


def main(folder: Path) -> None:
    """Fit and save."""
    import pandas as pd
    from pyspark.ml.recommendation import ALS

    from pipelines.config import SparkOptions
    from pipelines.spark import spark_session

    train = sparse.load_npz(folder / "train.npz").tocoo()
    spark = spark_session(SparkOptions())
    pairs = pd.DataFrame({"user": train.row, "item": train.col, "rating": train.data})
    model = ALS(
        rank=RANK,
        maxIter=ITERATIONS,
        regParam=REGULARISATION,
        alpha=ALPHA,
        implicitPrefs=True,
        userCol="user",
        itemCol="item",
        ratingCol="rating",
        numUserBlocks=2,
        numItemBlocks=2,
        seed=0,
    ).fit(spark.createDataFrame(pairs))
    found = {}
    for side, rows, frame in (("user", train.shape[0], model.userFactors), ("item", train.shape[1], model.itemFactors)):
        known = frame.toPandas()
        found[side] = np.zeros((rows, RANK), np.float32)
        found[side][known["id"]] = np.stack(known["features"])
    np.savez(folder / "factors.npz", **found)
    spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
