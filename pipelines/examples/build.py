"""The point-in-time join, assembled: clean tables and fitted state in, examples and evaluation candidates out.

Each step is another module's; here is only their order. Rows stay narrow until both sides' features are joined last.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.examples.candidates import (
    attach_past_positives,
    candidates_at,
    catalogue_at,
    evaluation_clocks,
    training_clocks,
    versions_in_effect,
)
from pipelines.examples.existence import exists_from
from pipelines.examples.labels import labelled_events
from pipelines.examples.negatives import with_negatives
from pipelines.examples.sampling import keyed_share
from pipelines.examples.sides import item_side, join_side, moments, pair_side, user_side, with_version
from pipelines.examples.splits import is_mature, split_of
from pipelines.examples.tables import Keep, Tables, lazily
from pipelines.features import feature_set
from pipelines.preferences.clock import clock_columns
from pipelines.spark import together
from schemas.examples import candidate_table, example_table
from schemas.fitted import Fitted
from schemas.to_spark import select_contract


@dataclass(frozen=True)
class Built:
    """Frames of the contracts in `schemas.examples`, and counts of what became of the labelled events."""

    examples: DataFrame
    candidates: DataFrame
    exists: DataFrame
    counts: DataFrame
    """split, label, mature, n: logged events only; the immature ones are dropped."""
    catalogue: DataFrame | None = None
    """As candidates, at clocks of the training period; None unless catalogue.rows asks for some."""


def build(tables: Tables, config: Config, fitted: Fitted, keep: Keep = lazily) -> Built:
    """Examples, candidates, item existence, counts and catalogue. What several rest on is given to `keep`."""
    exists = keep(exists_from(tables.items, tables.interactions))
    events = keep(_kept_events(tables.interactions, config, fitted))
    rows = keep(_rows(events.where("mature"), exists, tables, config, fitted))
    versions = versions_in_effect(tables.items, exists)
    candidates = keep(candidates_at(evaluation_clocks(rows, config), versions))
    asked = moments(rows, "item").union(moments(candidates, "item"))
    catalogue = None
    if config.catalogue.rows:
        catalogue = keep(catalogue_at(training_clocks(rows, config), versions, config))
        asked = asked.union(moments(catalogue, "item"))
    users, items = together(
        lambda: keep(user_side(moments(rows, "user"), tables, config, fitted)),
        lambda: keep(item_side(asked.distinct(), tables, config, fitted)),
    )
    features = feature_set(config)
    joined = join_side(join_side(rows, users, "user"), items, "item")
    if features.crosses:
        joined = join_side(joined, keep(pair_side(moments(rows, "pair"), tables, config, fitted)), "pair")

    def as_candidates(rows: DataFrame) -> DataFrame:
        found = join_side(attach_past_positives(rows, tables.interactions, config), items, "item")
        return select_contract(found, candidate_table(features.item))

    return Built(
        examples=select_contract(joined, example_table(features)),
        candidates=as_candidates(candidates),
        exists=exists,
        counts=events.groupBy("split", "label", "mature").agg(F.count("*").alias("n")),
        catalogue=None if catalogue is None else as_candidates(catalogue),
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


def _rows(events: DataFrame, exists: DataFrame, tables: Tables, config: Config, fitted: Fitted) -> DataFrame:
    """Events and drawn negatives, each with its split, its clock and its sides' versions: all but features."""
    rows = events
    if config.labels.rule == "sampled":
        rows = with_negatives(rows, exists, config.labels.negatives, config.seed)
    time = F.col("event_time")
    as_of, known_by = clock_columns(time, config.preferences)
    rows = rows.withColumns({"split": split_of(time, fitted.cuts), "as_of": as_of, "known_by": known_by})
    return with_version(with_version(rows, tables.items, "item"), tables.users, "user")
