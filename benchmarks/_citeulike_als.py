"""Spark MLlib's implicit ALS, as `thaw compute_factors` fits it, in a process of its own: the towers' has TensorFlow.

`python -m benchmarks._citeulike_als FOLDER` reads FOLDER/train.npz (a sparse matrix) and leaves FOLDER/factors.npz.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse  # type: ignore[import-untyped]

from benchmarks._citeulike import Floats
from pipelines.config import FactorOptions, SparkOptions

OPTIONS = FactorOptions(rank=200, alpha=10.0, regularisation=0.1, iterations=15, blocks=2)


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
    from pipelines.factors.als import fit_factors
    from pipelines.spark import spark_session

    train = sparse.load_npz(folder / "train.npz").tocoo()
    spark = spark_session(SparkOptions())
    spark.sparkContext.setCheckpointDir(str(folder / "checkpoints"))
    pairs = pa.table({"user_id": train.row.astype(str), "item_id": train.col.astype(str)})
    frames = fit_factors(spark.createDataFrame(pairs), OPTIONS, seed=0)
    found = {}
    for side, rows in zip(("user", "item"), train.shape, strict=True):
        known = frames[side].toArrow()
        found[side] = np.zeros((rows, OPTIONS.rank), np.float32)
        found[side][known[f"{side}_id"].to_numpy().astype(np.int64)] = np.stack(known["factor"].to_numpy())
    np.savez(folder / "factors.npz", **found)
    spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
