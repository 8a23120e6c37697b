"""One scan of the written examples: counts by split, and how every feature looks by period and split.

Each file is aggregated by Arrow in a task of its own; what reaches the driver is a row per 65,536 examples, period and
split. What the figures must be is left to `features`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from pipelines.config import PreferenceOptions, parse_duration
from pipelines.spark import map_batches
from pipelines.storage import arrow_schema
from schemas.examples import FeatureSet
from schemas.preferences import US_PER_DAY
from schemas.profile import PROFILE

_GROUP = ["since", "split"]
_COUNTED = ["event_time", "split", "label", "cold_user", "cold_item", "negative_index", "user_id", "item_id"]


@dataclass(frozen=True)
class Scan:
    """What one pass over the examples found."""

    splits: Mapping[str, Mapping[str, int]]
    """Split -> rows, positives, cold positives, drawn negatives; a split without rows is not there."""
    single: tuple[str, ...]
    """Sides (user, item) of which all examples have the same one."""
    profile: pa.Table
    """`schemas.profile.PROFILE`, in the order of its key."""


def period_us(options: PreferenceOptions) -> int:
    """Length of a profile's periods in microseconds: a day, or the snapshots' period where that is longer."""
    return max(US_PER_DAY, parse_duration(options.period))


def scan_examples(spark: SparkSession, paths: Sequence[str], features: FeatureSet, period: int) -> Scan:
    """Scan Parquet files of `schemas.examples.example_table`; `period` in microseconds.

    The result is a function of the files alone, whichever task reads which of them.
    """
    wanted = {column.name: column.type != "string" for column in features.columns}
    sides = {column.name: side.side for side in (features.user, features.item) for column in side.columns}

    def scan(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for path in (path for batch in batches for path in batch.column("path").to_pylist()):
            sink = pa.BufferOutputStream()
            found = pa.concat_tables(_figures(rows, wanted, period) for rows in _row_groups(path, [*_COUNTED, *wanted]))
            with pa.ipc.new_stream(sink, found.schema) as stream:
                stream.write_table(found)
            yield pa.RecordBatch.from_pydict({"path": [path], "found": [sink.getvalue().to_pybytes()]})

    files = spark.createDataFrame([(path,) for path in paths], "path string").repartition(len(paths))
    rows = sorted(map_batches(files, scan, "path string, found binary").collect())
    found = pa.concat_tables(pa.ipc.open_stream(bytes(row["found"])).read_all() for row in rows)
    return Scan(_splits(found), _single(found), _profile(found, wanted, sides))


def _row_groups(path: str, columns: list[str]) -> Iterator[pa.Table]:
    fs, name = fsspec.core.url_to_fs(path)
    with fs.open(name, "rb") as file:
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group, columns, use_threads=False)


def _counts(rows: pa.Table) -> dict[str, Any]:
    """What is counted by split, as booleans."""
    positive, user, item = pc.equal(rows["label"], 1), rows["cold_user"], rows["cold_item"]
    return {
        "positives": positive,
        "cold_user_positives": pc.and_(positive, user),
        "cold_item_positives": pc.and_(positive, item),
        "cold_both_positives": pc.and_(positive, pc.and_(user, item)),
        "drawn_negatives": pc.greater(rows["negative_index"], 0),
    }


def _figures(rows: pa.Table, wanted: Mapping[str, bool], period: int) -> pa.Table:
    """Figures of some rows by period and split. `wanted`: feature -> whether it is a number or a list."""
    since = rows["event_time"].to_numpy() // period * period
    columns: dict[str, Any] = {"since": since, "split": rows["split"], **_counts(rows)}
    aggregates = [("since", "count"), *((name, "sum") for name in columns if name not in _GROUP)]
    for side in ("user_id", "item_id"):
        columns[side] = rows[side]
        aggregates += [(side, "min"), (side, "max"), (side, "count_distinct")]
    for name, measured in wanted.items():
        values = rows[name]
        if measured:
            lengths = pc.list_value_length(values) if pa.types.is_list(values.type) else values
            values = pc.cast(lengths, pa.float64())
        columns[f":{name}"] = values  # a feature may be called as the columns above are
        aggregates += [(f":{name}", how) for how in ("count", "min", "max", "mean", "variance")[: 5 if measured else 1]]
    # One thread: the order of additions, and so the last bits of a mean, must not depend on the machine.
    return pa.table(columns).group_by(_GROUP, use_threads=False).aggregate(aggregates)


def _splits(found: pa.Table) -> dict[str, dict[str, int]]:
    sums = [name for name in found.column_names if name.endswith("_sum")]
    counted = found.group_by("split").aggregate([(name, "sum") for name in ("since_count", *sums)])
    return {
        row["split"]: {"rows": row["since_count_sum"]}
        | {name.removesuffix("_sum"): row[f"{name}_sum"] for name in sums}
        for row in counted.to_pylist()
    }


def _single(found: pa.Table) -> tuple[str, ...]:
    ends = {side: (pc.min(found[f"{side}_id_min"]), pc.max(found[f"{side}_id_max"])) for side in ("user", "item")}
    return tuple(side for side, (first, last) in ends.items() if found.num_rows and first.equals(last))


def _profile(found: pa.Table, wanted: Mapping[str, bool], sides: Mapping[str, str]) -> pa.Table:
    """The figures of all files, merged by feature, period and split."""
    keys = pc.binary_join_element_wise(pc.cast(found["since"], pa.string()), found["split"], "/")
    _, first, group = np.unique(keys.to_numpy(zero_copy_only=False), return_index=True, return_inverse=True)
    rows = np.bincount(group, found["since_count"].to_numpy()).astype(np.int64)
    distinct = {side: np.zeros(len(first), np.int64) for side in ("user", "item")}
    for side, most in distinct.items():
        np.maximum.at(most, group, found[f"{side}_id_count_distinct"].to_numpy())
    fewer = np.minimum(*distinct.values())  # what is neither a user's nor an item's is of both
    pieces = []
    for name, measured in wanted.items():
        count = found[f":{name}_count"].to_numpy()
        total = np.bincount(group, count).astype(np.int64)
        figures = _merged(found, name, group, count, total) if measured else {}
        pieces.append(
            pa.table(
                {
                    "feature": [name] * len(first),
                    "since": found["since"].take(first),
                    "split": found["split"].take(first),
                    "rows": rows,
                    "missing": rows - total,
                    "entities": distinct.get(sides.get(name, ""), fewer),
                    **{
                        figure: pa.array(figures.get(figure, np.zeros(len(first))), mask=~(measured & (total > 0)))
                        for figure in ("lowest", "highest", "mean", "std")
                    },
                },
                schema=arrow_schema(PROFILE),
            )
        )
    return pa.concat_tables(pieces).sort_by([(name, "ascending") for name in PROFILE.key]).combine_chunks()


def _merged(found: pa.Table, name: str, group: Any, count: Any, total: Any) -> dict[str, Any]:
    """Extremes, mean and deviation by group, from those of its parts (Chan, Golub and LeVeque 1979)."""
    parts = {how: found[f":{name}_{how}"].to_numpy() for how in ("min", "max", "mean", "variance")}
    there, many = count > 0, np.maximum(total, 1)
    lowest, highest = np.full(len(total), np.inf), np.full(len(total), -np.inf)
    np.minimum.at(lowest, group[there], parts["min"][there])
    np.maximum.at(highest, group[there], parts["max"][there])
    weight = np.where(there, count, 0)
    mean_of = np.where(there, parts["mean"], 0.0)
    with np.errstate(invalid="ignore", over="ignore"):  # a value that is not finite shows as one in the result
        mean = np.bincount(group, weight * mean_of) / many
        spread = np.where(there, parts["variance"], 0.0) + (mean_of - mean[group]) ** 2
        std = np.sqrt(np.bincount(group, weight * spread) / many)
    # Extremes of Arrow pass over NaN; a mean does not.
    return {"lowest": lowest, "highest": np.where(np.isfinite(mean), highest, np.inf), "mean": mean, "std": std}
