"""Whether the encoder was fitted on the training rows alone: its vocabularies, the weights of ids and normalisers,
counted once more.

The published files are read by Arrow, one after another, wherever there is a core free; nothing is shared with
`content.fit` but the configuration and what a value is transformed by.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from pipelines.config import ContentOptions
from pipelines.content.layout import columns_of_kind, embedding_tables, float_columns, vocabulary_tables
from pipelines.content.survey import WIDE_RANGE
from pipelines.content.words import text_buckets
from pipelines.examples.audit.report import Check, merged, mismatch
from schemas.examples import FeatureSet
from schemas.fitted import EncoderState, Normaliser

STEPS = 1 << 15
"""A normaliser may be off by its column's range over this: it is made of whole multiples of half as much."""
WEIGHT_TOLERANCE = 1e-5
"""Weights are rounded to six digits."""
_BATCH_ROWS = 1 << 16


@dataclass
class Counts:
    """What training rows hold."""

    values: dict[str, Counter[str]] = field(default_factory=dict)
    """Embedding table -> value -> rows that hold it."""
    rows: int = 0
    buckets: dict[str, Counter[int]] = field(default_factory=dict)
    """Embedding table of text -> bucket -> rows whose text has a gram in it; where ids are weighed."""
    floats: dict[str, list[tuple[int, float, float, float, float]]] = field(default_factory=dict)
    """Column -> for each batch: finite values, their sum, sum of squares, smallest, largest; transformed."""
    ranks: dict[str, list[npt.NDArray[np.int64]]] = field(default_factory=dict)
    """Column with knots -> for each batch (2, knots): transformed values below each, and up to it."""


def check_encoder(
    spark: SparkSession, paths: Sequence[str], state: EncoderState, features: FeatureSet, options: ContentOptions
) -> list[Check]:
    """`state` beside the training rows of the published examples, the Parquet files `paths`."""
    tables = vocabulary_tables(features)
    normalisers = {name: state.normalisers[name] for name in float_columns(features)}
    of_text = embedding_tables(features) if options.weighting == "idf" else {}
    texts = {name: of_text[name] for name in columns_of_kind(features, "text") if name in of_text}
    found = spark.sparkContext.parallelize(paths, max(len(paths), 1)).map(
        lambda path: count_training(path, tables, normalisers, texts, options)
    )
    counts = found.collect()
    checks = [_vocabularies(counts, state, options), _normalisers(counts, state, columns_of_kind(features, "number"))]
    return [*checks, _weights(counts, state)] if options.weighting == "idf" else checks


def count_training(
    path: str,
    tables: Mapping[str, Sequence[str]],
    normalisers: Mapping[str, Normaliser],
    texts: Mapping[str, str],
    options: ContentOptions,
) -> Counts:
    """What the training rows of one file hold. `texts` is column -> embedding table."""
    counts = Counts(
        {table: Counter() for table in tables},
        buckets={table: Counter() for table in texts.values()},
        floats={name: [] for name in normalisers},
        ranks={name: [] for name in normalisers},
    )
    names = ["split", *normalisers, *texts, *(name for columns in tables.values() for name in columns)]
    with fsspec.open(path, "rb") as binary:
        for batch in pq.ParquetFile(binary).iter_batches(_BATCH_ROWS, columns=list(dict.fromkeys(names))):
            train = batch.filter(pc.equal(batch["split"], "train"))
            for table, columns in tables.items():
                counts.values[table].update(_rows_with([train[name] for name in columns]))
            counts.rows += train.num_rows
            for name, table in texts.items():
                for text in train[name].drop_null().to_pylist():
                    grams = text_buckets(text, options.max_words, options.text_buckets, options.ngrams)
                    counts.buckets[table].update(set(grams) - {0})
            for name, normaliser in normalisers.items():
                values = train[name].drop_null().to_numpy(zero_copy_only=False)
                values = values[np.isfinite(values)]
                if len(values):
                    scaled = _transformed(values, normaliser)
                    totals = (len(values), scaled.sum(), (scaled * scaled).sum(), values.min(), values.max())
                    counts.floats[name].append(totals)
                    knots, nearly = np.array(normaliser.knots), _resolution(normaliser)
                    ordered = np.sort(scaled)
                    below = np.searchsorted(ordered, knots - nearly, side="left")
                    counts.ranks[name].append(np.stack([below, np.searchsorted(ordered, knots + nearly, "right")]))
    return counts


def _transformed(values: npt.NDArray[np.float64], normaliser: Normaliser) -> npt.NDArray[np.float64]:
    return np.sign(values) * np.log1p(np.abs(values)) if normaliser.transform == "log1p" else values


def _resolution(normaliser: Normaliser) -> float:
    """How far a knot may be off: it is a whole multiple of half as much."""
    low, high = (normaliser.knots or (0.0, 0.0))[:: max(len(normaliser.knots) - 1, 1)]
    return (high - low) / STEPS + 1e-9 * max(1.0, abs(low), abs(high))


def _rows_with(columns: Sequence[pa.Array]) -> dict[str, int]:
    """Value -> rows in which any of the columns holds it."""
    rows, values = [], []
    for column in columns:
        if pa.types.is_list(column.type):
            rows.append(pc.list_parent_indices(column))
            values.append(pc.list_flatten(column))
        else:
            rows.append(pa.array(np.arange(len(column))))
            values.append(column)
    coded = pa.concat_arrays(values).dictionary_encode()
    pairs = pa.table({"row": pa.concat_arrays([r.cast(pa.int64()) for r in rows]), "code": coded.indices})
    once = pairs.filter(pc.is_valid(pairs["code"])).group_by(["row", "code"]).aggregate([])
    counted = once.group_by("code").aggregate([([], "count_all")])
    known = coded.dictionary.take(counted["code"].combine_chunks())
    return dict(zip(known.to_pylist(), counted["count_all"].to_pylist(), strict=True))


def _vocabularies(counts: Sequence[Counts], state: EncoderState, options: ContentOptions) -> Check:
    """Values of at least min_count training rows, the commonest first, ties by value."""
    broken = []
    for table, found in state.vocabularies.items():
        rows: Counter[str] = sum((count.values[table] for count in counts), Counter())
        frequent = [value for value, n in rows.items() if n >= options.min_count]
        expected = sorted(frequent, key=lambda value: (-rows[value], value.encode()))[: options.max_vocabulary]
        if list(found) != expected:
            place = next(i for i in range(len(expected) + 1) if found[i : i + 1] != tuple(expected[i : i + 1]))
            names = [str(known[place]) if place < len(known) else None for known in (found, expected)]
            broken.append(mismatch(f"vocabulary {table}", f"value {place}", *names))
    return merged("vocabularies", "fitted", len(state.vocabularies), broken, "those of the training rows")


def _weights(counts: Sequence[Counts], state: EncoderState) -> Check:
    """Of ids: ln((1 + rows) / (1 + its rows)) + 1; of values that are unknown 1."""
    rows, broken = sum(count.rows for count in counts), []
    tables: dict[str, list[int]] = {}
    for table, values in state.vocabularies.items():
        held: Counter[str] = sum((count.values[table] for count in counts), Counter())
        tables[table] = [rows, *(held[value] for value in values)]
    for table in counts[0].buckets if counts else ():
        grams: Counter[int] = sum((count.buckets[table] for count in counts), Counter())
        tables[table] = [grams[bucket] for bucket in range(1, state.text_buckets + 1)]
    for table, holders in tables.items():
        found = np.array(state.idf.get(table, ()))
        expected = np.log((1 + rows) / (1 + np.array(holders))) + 1
        if len(found) != len(expected):
            broken.append(mismatch(f"weights of {table}", "their number", len(found), len(expected)))
        elif (wrong := np.flatnonzero(np.abs(found - expected) > WEIGHT_TOLERANCE)).size:
            place = int(wrong[0])
            broken.append(mismatch(f"weights of {table}", f"id {place + 1}", found[place], expected[place]))
    return merged("weights of ids", "fitted", len(tables), broken, "those of the training rows")


def _normalisers(counts: Sequence[Counts], state: EncoderState, plain: Sequence[str]) -> Check:
    """Mean and standard deviation of the training rows' transformed values."""
    broken = []
    for name, found in state.normalisers.items():
        totals = np.array([row for count in counts for row in count.floats[name]]).reshape(-1, 5)
        expected: dict[str, Any] = {"transform": found.transform if name in plain else "log1p", "mean": 0.0, "std": 1.0}
        tolerance = 0.0
        if not len(totals):
            expected["transform"] = "none"
        else:
            n, low, high = totals[:, 0].sum(), totals[:, 3].min(), totals[:, 4].max()
            if name in plain:
                expected["transform"] = "log1p" if low >= 0 and high > WIDE_RANGE * max(low, 1.0) else "none"
            mean = totals[:, 1].sum() / n
            deviation = max(totals[:, 2].sum() / n - mean * mean, 0.0) ** 0.5
            ends = np.array([low, high])
            if found.transform == "log1p":
                ends = np.sign(ends) * np.log1p(np.abs(ends))
            tolerance = float(ends[1] - ends[0]) / STEPS + 1e-9 * max(1.0, abs(mean))
            expected |= {"mean": float(mean), "std": float(deviation) if low < high else 1.0}
        wrong = [
            column
            for column, right in expected.items()
            if (right != found.transform if column == "transform" else abs(getattr(found, column) - right) > tolerance)
        ]
        broken += [mismatch(f"normaliser of {name}", c, getattr(found, c), expected[c]) for c in wrong[:1]]
        if found.knots and len(totals):
            below, upto = np.sum([rank for count in counts for rank in count.ranks[name]], axis=0)
            last = int(totals[:, 0].sum()) - 1
            ranks = np.arange(len(found.knots)) * last // (len(found.knots) - 1)
            if (apart := np.flatnonzero((below > ranks) | (ranks >= upto))).size:
                place = int(apart[0])
                held = f"a value of rank {below[place]} to {upto[place] - 1}"
                broken.append(mismatch(f"normaliser of {name}", f"knot {place}", held, f"that of rank {ranks[place]}"))
    return merged("normalisers", "fitted", len(state.normalisers), broken, "those of the training rows")
