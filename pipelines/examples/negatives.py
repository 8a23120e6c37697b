"""Negatives drawn from the items that existed at the time of the positive.

Items stand in order of (exists_from, item_id), so that those in existence at t are a prefix of that order: an item
that comes later, or is not known yet, changes neither the prefix nor what is drawn from it. A draw is a keyed hash of
(seed, example_id, index) over the places still free, without replacement and never the positive itself: there are no
collisions to resolve. Where fewer other items exist than negatives are asked for, each of them is drawn once.

A user's other positives are not left out: drawing is uniform over what existed, and the loss masks known positives.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.bits import mixed
from pipelines.examples.labels import LABELLED, example_id
from pipelines.examples.sampling import keyed_hash
from pipelines.spark import map_batches

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw(
    keys: npt.NDArray[np.uint64], sizes: npt.NDArray[np.int64], own: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """`count` distinct places below `sizes` other than `own` for each key; -1 where none is free any more.

    Shapes: keys, sizes, own (n,); result (n, count). Uniform without replacement: the k-th draw is a place among those
    still free, then moved past each taken place, in ascending order.
    """
    drawn = np.full((len(keys), count), -1, np.int64)
    taken = own[:, None]
    for k in range(count):
        free = sizes - (taken < sizes[:, None]).sum(axis=1)
        with np.errstate(over="ignore"):
            bits = mixed(keys + _GOLDEN * np.uint64(k + 1))
        place = (bits % np.maximum(free, 1).astype(np.uint64)).astype(np.int64)
        for column in taken.T:
            place += place >= column
        drawn[:, k] = np.where(free > 0, place, -1)
        taken = np.sort(np.column_stack([taken, place]), axis=1)
    return drawn


def with_negatives(positives: DataFrame, exists: DataFrame, count: int, seed: int) -> DataFrame:
    """`positives` (columns of `LABELLED`) and, for each, up to `count` drawn negatives of the same user and time.

    A negative has label 0, negative_index 1, 2, … and an example_id of its own, made of the positive's and the index.
    """
    catalogue = exists.orderBy("exists_from", "item_id").toArrow()
    times = catalogue["exists_from"].to_numpy()
    items = catalogue["item_id"].combine_chunks()
    keyed = positives.select(*LABELLED, keyed_hash(seed, "negatives", "example_id").alias("_key"))

    def expand(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _expand(batch, times, items, count)

    numbered = F.when(F.col("negative_index") == 0, F.col("example_id")).otherwise(
        example_id(["example_id", "negative_index"])
    )
    return map_batches(keyed, expand, positives.select(*LABELLED).schema).withColumn("example_id", numbered)


def _expand(batch: pa.RecordBatch, times: npt.NDArray[np.int64], items: pa.Array, count: int) -> pa.RecordBatch:
    """A batch of positives with its negatives after each."""
    n = batch.num_rows
    keys = batch["_key"].to_numpy().view(np.uint64)
    sizes = np.searchsorted(times, batch["event_time"].to_numpy(), side="right").astype(np.int64)
    own = pc.fill_null(pc.index_in(batch["item_id"], items), len(items)).to_numpy().astype(np.int64)
    places = np.column_stack([np.full(n, -1), draw(keys, sizes, own, count)])
    index = np.tile(np.arange(count + 1), n)
    keep = np.flatnonzero((places.ravel() >= 0) | (index == 0))
    rows, index, places = keep // (count + 1), index[keep], places.ravel()[keep]
    out = batch.select(list(LABELLED)).take(pa.array(rows))
    drawn = items.take(pa.array(places, pa.int64(), mask=places < 0))
    replaced = {
        "item_id": pc.coalesce(drawn, out["item_id"]),
        "label": pa.array(np.where(index == 0, out["label"].to_numpy(), 0), pa.float32()),
        "negative_index": pa.array(index, pa.int64()),
    }
    return pa.RecordBatch.from_arrays([replaced.get(name, out[name]) for name in LABELLED], names=list(LABELLED))
