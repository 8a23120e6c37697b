"""The point-in-time join, assembled: clean tables and fitted state in, examples and evaluation candidates out.

Each step is another module's; here is only their order. Nothing is read, written or cached.
"""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.content.as_of import attach_content
from pipelines.examples.candidates import attach_past_positives, candidates_at, evaluation_clocks, versions_in_effect
from pipelines.examples.existence import exists_from
from pipelines.examples.labels import labelled_events, positive_condition
from pipelines.examples.negatives import with_negatives
from pipelines.examples.sampling import keyed_share
from pipelines.examples.splits import in_training_period, is_mature, split_of
from pipelines.features import feature_set
from pipelines.preferences.clock import clock_columns
from pipelines.preferences.join import attach_recent, attach_statistics, category_events
from schemas.content import Side
from schemas.examples import candidate_table, example_table
from schemas.fitted import Cuts, Fitted
from schemas.to_spark import select_contract


@dataclass(frozen=True)
class Tables:
    """The clean tables that examples are made of."""

    interactions: DataFrame
    items: DataFrame
    users: DataFrame


@dataclass(frozen=True)
class Built:
    """Frames of the contracts in `schemas.examples`, and counts of what became of the labelled events."""

    examples: DataFrame
    candidates: DataFrame
    exists: DataFrame
    counts: DataFrame
    """split, label, mature, n: logged events only; the immature ones are dropped."""


def build(tables: Tables, config: Config, fitted: Fitted) -> Built:
    """Examples, candidates, item existence and counts, as lazy frames (drawing negatives collects the item list)."""
    exists = exists_from(tables.items, tables.interactions)
    events = _kept_events(tables.interactions, config, fitted)
    rows = events.where("mature")
    if config.labels.rule == "sampled":
        rows = with_negatives(rows, exists, config.labels.negatives, config.seed)
    as_of, known_by = clock_columns(F.col("event_time"), config.preferences)
    rows = rows.withColumns({"split": split_of(F.col("event_time"), fitted.cuts), "as_of": as_of, "known_by": known_by})
    features = feature_set(config)
    return Built(
        examples=select_contract(_join_features(rows, tables, config, fitted), example_table(features)),
        candidates=select_contract(_candidates(rows, exists, tables, config, fitted), candidate_table(features.item)),
        exists=exists,
        counts=events.groupBy("split", "label", "mature").agg(F.count("*").alias("n")),
    )


def _kept_events(interactions: DataFrame, config: Config, fitted: Fitted) -> DataFrame:
    """Labelled events of the kept sample, with split and whether the label was known in time."""
    labelled = labelled_events(interactions, config)
    if fitted.keep_share < 1:
        labelled = labelled.where(keyed_share(config.seed, "examples", "example_id") < fitted.keep_share)
    time, label_time = F.col("event_time"), F.col("label_time")
    return labelled.withColumns(
        {"split": split_of(time, fitted.cuts), "mature": is_mature(time, label_time, fitted.cuts)}
    )


def _join_features(rows: DataFrame, tables: Tables, config: Config, fitted: Fitted) -> DataFrame:
    """Every feature of both sides as of each row's clock (behaviour) and time (content). Thin columns come first."""
    rows = with_user_history(rows, tables, config, fitted)
    rows = with_content(rows, tables.items, "item", config)
    rows = with_item_history(rows, tables, config, fitted)
    rows = with_content(rows, tables.users, "user", config)
    for side in ("user", "item"):
        rows = _with_cold_flag(rows, tables.interactions, f"{side}_id", fitted.cuts)
    return rows


def _candidates(rows: DataFrame, exists: DataFrame, tables: Tables, config: Config, fitted: Fitted) -> DataFrame:
    """The item side of the catalogue at each evaluation clock."""
    versions = versions_in_effect(tables.items, exists)
    renamed = {name: f"item_{name}" for name in config.content_kinds("item")}
    found = candidates_at(evaluation_clocks(rows, config), versions).withColumnsRenamed(renamed)
    found = with_item_history(found, tables, config, fitted)
    found = attach_past_positives(found, tables.interactions, config)
    return _with_cold_flag(found, tables.interactions, "item_id", fitted.cuts)


def with_user_history(rows: DataFrame, tables: Tables, config: Config, fitted: Fitted) -> DataFrame:
    """Adds the user's statistics and the bags of the latest positives, each with its item's content at that time."""
    options = config.preferences
    if "user" in options.entities:
        rows = attach_statistics(
            rows, tables.interactions, key="user_id", entity="user", options=options, priors=fitted.priors
        )
    if options.recent:
        positives = tables.interactions.where(positive_condition(config))
        content = {name: name for name in options.recent if name != "item_id"}
        if content:
            positives = attach_content(positives, tables.items, id="item_id", time="event_time", columns=content)
        rows = attach_recent(rows, positives, options=options)
    return rows


def with_item_history(rows: DataFrame, tables: Tables, config: Config, fitted: Fitted) -> DataFrame:
    """Adds the statistics of the item and of its categories; `rows` already has the categories as of its time."""
    for entity in config.preferences.entities:
        if entity == "user":
            continue
        column = entity.removeprefix("item").removeprefix(".")
        events = category_events(tables.interactions, tables.items, column) if column else tables.interactions
        key = f"item_{column}" if column else "item_id"
        rows = attach_statistics(rows, events, key=key, entity=entity, options=config.preferences, priors=fitted.priors)
    return rows


def with_content(rows: DataFrame, versions: DataFrame, side: Side, config: Config) -> DataFrame:
    """Adds the side's content as of event_time, named `SIDE_COLUMN`."""
    columns = {name: f"{side}_{name}" for name in config.content_kinds(side)}
    if not columns:
        return rows
    return attach_content(rows, versions, id=f"{side}_id", time="event_time", columns=columns)


def _with_cold_flag(rows: DataFrame, interactions: DataFrame, key: str, cuts: Cuts) -> DataFrame:
    """Adds `cold_user` or `cold_item`: no event of it in the training period."""
    warm = interactions.where(in_training_period(cuts)).select(key).distinct().withColumn("_warm", F.lit(True))
    cold: Column = F.col("_warm").isNull()
    return rows.join(warm, key, how="left").withColumn(f"cold_{key.removesuffix('_id')}", cold).drop("_warm")
