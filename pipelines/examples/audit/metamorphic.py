"""Change the future, build again, and compare: nothing at or before the cut may differ by a byte.

This holds whatever the build does inside, and for all rows rather than a sample. Fitted state is held fixed: how it
is fitted is the training period's own affair, checked by `priors`. What the other future is, is left to `future`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.config import Config, parse_duration
from pipelines.examples.audit.future import disordered, other_future
from pipelines.examples.audit.report import Check, Kind, mismatch
from pipelines.examples.build import Built
from pipelines.examples.tables import Tables
from pipelines.spark import persisted
from schemas.examples import EXISTS
from schemas.fitted import Fitted

COLD = ("cold_user", "cold_item")
LABEL = ("label", "weight", "label_time")
CANDIDATE_KEY = ("as_of", "known_by", "item_id", "in_effect_from")


@dataclass(frozen=True)
class Published:
    """What is audited: frames of the contracts in `schemas.examples`."""

    examples: DataFrame
    candidates: DataFrame
    exists: DataFrame
    catalogue: DataFrame | None = None


Build = Callable[[Tables, Config, Fitted], Built | Published]


@dataclass(frozen=True)
class Comparison:
    """What must be equal in two frames of one kind."""

    what: str
    key: tuple[str, ...]
    groups: Mapping[str, list[str]]
    """Name of a check -> columns that it compares."""
    where: Mapping[str, Column] = field(default_factory=dict)
    """Name of a check -> the rows for which it must hold; absent: all."""
    required: Column = field(default_factory=lambda: F.lit(True))
    """Rows that must be in both frames. The others are compared where they are."""
    within: tuple[str, ...] = ()
    """…but only where both frames have any row of the same values in these columns."""


@dataclass(frozen=True)
class Change:
    """What is different in the second build."""

    name: str
    kind: Kind


ANOTHER_FUTURE = Change("another future", "future")
ANOTHER_ORDER = Change("another row order", "thorough")


def check_future(
    built: Published,
    tables: Tables,
    config: Config,
    fitted: Fitted,
    build: Build,
    cut: int,
    change: Change = ANOTHER_FUTURE,
) -> list[Check]:
    """Rebuild under another future and compare everything that lies at or before the cut."""
    flags_fixed = fitted.cuts.validation_start <= cut
    other = other_future(tables, cut, config)
    with persisted(other.interactions, other.items, other.users):
        again = build(other, config, fitted)
        before, after = _until(cut, built), _until(cut, again)
        examples = _of_examples(built.examples.columns, cut, flags_fixed)
        candidates = _of_candidates(built.candidates.columns, config, flags_fixed)
        exists = Comparison("item", EXISTS.key, {"existence": ["exists_from"]})
        checks = [
            *compare(before.examples, after.examples, examples, change),
            *compare(before.candidates, after.candidates, candidates, change),
            *compare(before.exists, after.exists, exists, change),
        ]
        if before.catalogue is not None and after.catalogue is not None:
            checks += compare(before.catalogue, after.catalogue, replace(candidates, what="catalogue row"), change)
        return checks


def check_order(built: Published, tables: Tables, config: Config, fitted: Fitted, build: Build) -> list[Check]:
    """Rebuild from the same rows in another order and other partitions: every row must be the same."""
    other = disordered(tables, config)
    with persisted(other.interactions, other.items, other.users), _other_partitions(other.interactions):
        again = build(other, config, fitted)
        pairs = [
            ("example", ("example_id",), built.examples, again.examples),
            ("candidate", CANDIDATE_KEY, built.candidates, again.candidates),
            ("item", EXISTS.key, built.exists, again.exists),
        ]
        if built.catalogue is not None and again.catalogue is not None:
            pairs.append(("catalogue row", CANDIDATE_KEY, built.catalogue, again.catalogue))
        checks = []
        for what, key, before, after in pairs:
            columns = [name for name in before.columns if name not in key]
            checks += compare(before, after, Comparison(what, key, {"columns": columns}), ANOTHER_ORDER)
        return checks


@contextmanager
def _other_partitions(frame: DataFrame) -> Iterator[None]:
    """Within the block, Spark shuffles into another number of partitions."""
    conf, name = frame.sparkSession.conf, "spark.sql.shuffle.partitions"
    usual = str(conf.get(name))
    conf.set(name, str(int(usual) + 3))
    try:
        yield
    finally:
        conf.set(name, usual)


def compare(
    before: DataFrame, after: DataFrame, comparison: Comparison, change: Change = ANOTHER_FUTURE
) -> list[Check]:
    """One check a group of columns, and one that no required row is missing on either side."""
    key, groups = list(comparison.key), comparison.groups
    sides = [_digests(frame, comparison, side) for frame, side in ((before, "before"), (after, "after"))]
    joined = sides[0].join(sides[1], on=key, how="full")
    both = F.col("before_there").isNotNull() & F.col("after_there").isNotNull()
    required = F.coalesce("before_required", "after_required")
    if comparison.within:
        group = Window.partitionBy(*comparison.within)
        required = required & F.max("before_there").over(group) & F.max("after_there").over(group)
    joined = joined.withColumn("required", F.coalesce(required, F.lit(False)))
    broken = {name: both & ~F.col(f"before_{i}").eqNullSafe(F.col(f"after_{i}")) for i, name in enumerate(groups)} | {
        "rows": ~both & F.col("required")
    }
    counts = [F.count_if(both | F.col("required")).alias("rows")]
    for i, bad in enumerate(broken.values()):
        counts += [F.count_if(bad).alias(f"n{i}"), F.min(F.when(bad, F.struct(*key))).alias(f"key{i}")]
    found = joined.agg(*counts).collect()[0]
    checks = []
    for i, name in enumerate(broken):
        detail = f"equal under {change.name} and partitioning"
        if found[f"n{i}"]:
            where = found[f"key{i}"].asDict()
            detail = _first_difference(before, after, where, groups.get(name, []), comparison.what, change.name)
        checks.append(
            Check(f"{change.name}: {comparison.what} {name}", change.kind, found["rows"], found[f"n{i}"], detail)
        )
    return checks


def _of_examples(columns: list[str], cut: int, flags_fixed: bool) -> Comparison:
    features = [name for name in columns if name not in (*COLD, *LABEL, "example_id")]
    closed = F.col("label_time") <= cut
    groups = {"features": features, "labels": list(LABEL)} | ({"cold flags": list(COLD)} if flags_fixed else {})
    return Comparison("example", ("example_id",), groups, {"labels": closed}, required=closed)


def _of_candidates(columns: list[str], config: Config, flags_fixed: bool) -> Comparison:
    """Candidates there from the clock's first moment on must be there again; later ones depend on its last example."""
    features = [name for name in columns if name not in (*COLD, *CANDIDATE_KEY)]
    snapshot = config.preferences.accuracy == "snapshot"
    served = F.col("as_of") + F.lit(parse_duration(config.preferences.publish_delay) if snapshot else 0)
    groups = {"features": features} | ({"cold flags": ["cold_item"]} if flags_fixed else {})
    return Comparison(
        "candidate", CANDIDATE_KEY, groups, required=F.col("in_effect_from") <= served, within=CANDIDATE_KEY[:2]
    )


def _until(cut: int, built: Published | Built) -> Published:
    """What lies at or before the cut; a candidate that ends later ends just after it."""

    def known(candidates: DataFrame) -> DataFrame:
        kept = candidates.where((F.col("known_by") <= cut) & (F.col("in_effect_from") <= cut))
        return kept.withColumn("in_effect_to", F.least("in_effect_to", F.lit(cut + 1)))

    return Published(
        built.examples.where(F.col("event_time") <= cut),
        known(built.candidates),
        built.exists.where(F.col("exists_from") <= cut),
        None if built.catalogue is None else known(built.catalogue),
    )


def _digests(frame: DataFrame, comparison: Comparison, side: str) -> DataFrame:
    """The key, whether the row is required, and one 64-bit digest a group."""
    digests = []
    for i, (name, columns) in enumerate(comparison.groups.items()):
        digest = F.xxhash64(*[part for column in columns for part in _hashed(frame, column)])
        holds = comparison.where.get(name)
        digests.append((digest if holds is None else F.when(holds, digest)).alias(f"{side}_{i}"))
    return frame.select(
        *comparison.key, comparison.required.alias(f"{side}_required"), F.lit(True).alias(f"{side}_there"), *digests
    )


def _hashed(frame: DataFrame, name: str) -> list[Column]:
    """What of a column goes into a digest: whether it is null and how long a list is, which the hash itself skips."""
    length = [F.size(name)] if isinstance(frame.schema[name].dataType, T.ArrayType) else []
    return [F.col(name), F.col(name).isNull(), *length]


def _first_difference(
    before: DataFrame, after: DataFrame, key: Mapping[str, object], columns: list[str], what: str, change: str
) -> str:
    """The first differing column of one row, with both values; or that one of the frames lacks the row."""
    condition = F.lit(True)
    for name, value in key.items():
        condition = condition & (F.col(name) == F.lit(value))
    found, again = before.where(condition).first(), after.where(condition).first()
    row = f"{what} " + " ".join(str(value) for value in key.values())
    if found is None or again is None:
        return f"{row} is there {'only' if found is None else 'no more'} under {change}"
    for name in columns:
        if found[name] != again[name]:
            return mismatch(row, name, found[name], again[name])
    return f"{row} differs in its bytes alone"
