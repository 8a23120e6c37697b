"""Spark MLlib's implicit ALS, as `thaw compute_factors` fits it, in a process of its own: the towers' has TensorFlow.

`python -m benchmarks._citeulike_als FOLDER` reads FOLDER/train.npz (a sparse matrix) and leaves FOLDER/factors.npz.
"""

import hashlib
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

OPTIONS = FactorOptions(rank=200, alpha=10.0, regularisation=0.3, iterations=15, blocks=2)


def als_factors(train: Any, folder: Path) -> tuple[Floats, Floats]:
    """(users, 200), (items, 200): zeros for whoever has no pair. `folder` keeps them for equal pairs and OPTIONS."""
    folder /= cache_key(train, OPTIONS)
    made = folder / "factors.npz"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        sparse.save_npz(folder / "train.npz", train)
        environment = os.environ | {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
        subprocess.run([sys.executable, "-m", __spec__.name, str(folder)], check=True, env=environment)
    with np.load(made) as factors:
        return factors["user"], factors["item"]


def cache_key(train: Any, options: FactorOptions) -> str:
    """A digest of the pairs and of all options: other factors have another key."""
    digest = hashlib.blake2b(options.model_dump_json().encode(), digest_size=8)
    for array in (np.array(train.shape), train.indptr, train.indices):
        digest.update(np.ascontiguousarray(array, np.int64).tobytes())
    return digest.hexdigest()


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
    # Under its name only when whole: what lies there is taken as it is.
    np.savez(folder / "part.npz", **found)
    (folder / "part.npz").rename(folder / "factors.npz")
    spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
