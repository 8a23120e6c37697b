"""Fit the encoder on the training examples: vocabularies, normalisers, vector lengths. [spark]

Two passes over the data, each for all columns at once; the state is the same for any order and partitioning.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import groupby

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipelines.config import ContentOptions
from pipelines.content.layout import (
    columns_of_kind,
    embedding_tables,
    float_columns,
    model_inputs,
    vocabulary_tables,
)
from pipelines.content.survey import (
    Ends,
    Transform,
    histogram,
    knots_of,
    mean_and_std,
    moments,
    survey,
    transform_of,
    transformed_ends,
)
from pipelines.errors import ConfigError, InputError
from pipelines.spark import map_batches, persisted
from schemas.examples import FeatureSet
from schemas.fitted import EncoderState, Normaliser

_SURVEY_TYPE = "what string, name string, value string, count bigint, low double, high double"
_MOMENTS_TYPE = "name string, count bigint, total bigint, squares bigint"


def fit_encoder(train: DataFrame, features: FeatureSet, options: ContentOptions) -> EncoderState:
    """The state of `Encoder` for these features, from training examples (contract: example_table) alone.

    Raises ConfigError where a content column holds the raw id or names collide, InputError where a vector column has
    no vector, or vectors of several lengths.
    """
    train = train.select("user_id", "item_id", *(column.name for column in features.side_columns))
    contributions = map_batches(
        train, lambda batches: (survey(batch, features, options) for batch in batches), _SURVEY_TYPE
    )
    found = contributions.groupBy("what", "name", "value").agg(
        F.sum("count").alias("count"), F.min("low").alias("low"), F.max("high").alias("high")
    )
    with persisted(found):
        several = F.col("what").isin("value", "bucket")
        whole = {(row["what"], row["name"]): row for row in found.where(~several).collect()}
        counted = _vocabularies(found, list(vocabulary_tables(features)), options)
        vocabularies = {table: tuple(values) for table, values in counted.items()}
        idf: dict[str, tuple[float, ...]] = {}
        if options.weighting == "idf" and ("rows", "") in whole:
            texts = [embedding_tables(features)[name] for name in columns_of_kind(features, "text")]
            idf = _idf(counted, _rows_of_buckets(found, texts), whole["rows", ""]["count"], options)
    _check_no_raw_ids({key: row["count"] for key, row in whole.items()}, features)
    ends = {name: (row["low"], row["high"]) for (what, name), row in whole.items() if what == "extremes"}
    sizes = {table: len(values) for table, values in vocabularies.items()}
    return EncoderState(
        inputs=model_inputs(features, sizes, _vector_lengths(ends, features), options),
        vocabularies=vocabularies,
        normalisers=_normalisers(train, ends, features, options),
        text_buckets=options.text_buckets,
        max_words=options.max_words,
        max_values=options.max_values,
        ngrams=options.ngrams,
        idf=idf,
    )


def _check_no_raw_ids(counts: Mapping[tuple[str, str], int], features: FeatureSet) -> None:
    for side in (features.user, features.item):
        for name in side.content:
            filled = counts.get(("filled", name), 0)
            if filled and counts[("own_id", name)] == filled:
                raise ConfigError(
                    f"content must not be the raw id, but every value of `{name}` is the {side.side}'s own id; remove "
                    f"that column from source.{side.side}s: a model that reads ids cannot rank what is new"
                )


def _vocabularies(found: DataFrame, tables: list[str], options: ContentOptions) -> dict[str, dict[str, int]]:
    """Per table the values of at least `min_count` rows with their rows, most frequent first, ties by value."""
    order = Window.partitionBy("name").orderBy(F.desc("count"), F.asc("value"))
    frequent = found.where((F.col("what") == "value") & (F.col("count") >= options.min_count))
    ranked = frequent.withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= options.max_vocabulary)
    values: dict[str, dict[str, int]] = {table: {} for table in tables}
    for row in ranked.orderBy("name", "rank").select("name", "value", "count").collect():
        values[row["name"]][row["value"]] = row["count"]
    return values


def _rows_of_buckets(found: DataFrame, tables: list[str]) -> dict[str, dict[int, int]]:
    """Per table of text the rows that hold each bucket."""
    rows: dict[str, dict[int, int]] = {table: {} for table in tables}
    for row in found.where("what = 'bucket'").select("name", "value", "count").collect():
        rows[row["name"]][int(row["value"])] = row["count"]
    return rows


def _idf(
    counted: Mapping[str, Mapping[str, int]],
    of_text: Mapping[str, Mapping[int, int]],
    rows: int,
    options: ContentOptions,
) -> dict[str, tuple[float, ...]]:
    """Per table the weight of each id from 1 on. Unknown values, many in one, count as what every row holds."""

    def weight(holders: int) -> float:
        return round(math.log((1 + rows) / (1 + holders)) + 1, 6)

    return {table: (1.0, *map(weight, values.values())) for table, values in counted.items()} | {
        table: tuple(weight(held.get(bucket, 0)) for bucket in range(1, options.text_buckets + 1))
        for table, held in of_text.items()
    }


def _vector_lengths(ends: Mapping[str, Ends], features: FeatureSet) -> dict[str, int]:
    lengths = {}
    for name in columns_of_kind(features, "vector"):
        if name not in ends:
            raise InputError(f"`{name}` must have a vector in the training period, has none; remove the column")
        low, high = ends[name]
        if low != high:
            raise InputError(
                f"the vectors of `{name}` must have one length, got {low:.0f} to {high:.0f}; check the file"
            )
        lengths[name] = int(low)
    return lengths


def _normalisers(
    train: DataFrame, ends: Mapping[str, Ends], features: FeatureSet, options: ContentOptions
) -> dict[str, Normaliser]:
    """A column without any training value is left as it is: none, 0, 1."""
    columns = float_columns(features)
    plain = columns_of_kind(features, "number")
    transforms = {name: transform_of(ends[name], name in plain) for name in columns if name in ends}
    result = {name: Normaliser(transform="none", mean=0.0, std=1.0) for name in columns}
    if not transforms:
        return result
    scaled = {name: transformed_ends(ends[name], transform) for name, transform in transforms.items()}

    def contributions(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return (moments(batch, transforms, scaled) for batch in batches)

    sums = map_batches(train.select(*transforms), contributions, _MOMENTS_TYPE)
    for name, count, total, squares in sums.groupBy("name").sum("count", "total", "squares").collect():
        mean, std = mean_and_std(count, total, squares, scaled[name])
        result[name] = Normaliser(transform=transforms[name], mean=mean, std=std)
    if options.normaliser == "quantile":
        for name, knots in _knots(train, transforms, scaled).items():
            result[name] = result[name].model_copy(update={"knots": knots})
    return result


def _knots(
    train: DataFrame, transforms: Mapping[str, Transform], scaled: Mapping[str, Ends]
) -> dict[str, tuple[float, ...]]:
    """Quantiles of each column's transformed values."""

    def contributions(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return (histogram(batch, transforms, scaled) for batch in batches)

    found = map_batches(train.select(*transforms), contributions, "name string, step bigint, count bigint")
    rows = found.groupBy("name", "step").agg(F.sum("count").alias("count")).orderBy("name", "step").collect()
    return {
        name: knots_of([row["step"] for row in mine], [row["count"] for row in mine], scaled[name])
        for name, mine in ((name, list(group)) for name, group in groupby(rows, lambda row: str(row["name"])))
    }
