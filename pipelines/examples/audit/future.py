"""Another future: the same tables up to a cut, other events and content after it. Seeded, and a function of keys alone.

What becomes of examples under another future is left to `metamorphic`.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config, parse_duration
from pipelines.examples.tables import Tables
from schemas.columns import Column as ContractColumn
from schemas.content import Side, content_table
from schemas.interactions import INTERACTIONS
from schemas.preferences import US_PER_DAY
from schemas.to_spark import select_contract

NEW_IDS = 5
"""So many users and items that no table has ever seen appear after the cut."""
_MADE_UP = "made-up "
_POOL = 200
_LEAST_MADE = 0.05
ALTERED_SHARE = 0.5
"""Of the future's events and content versions that are not deleted, so many are changed."""
_HOUR_US = US_PER_DAY // 24
_RESOLUTION = 2**32


def choose_cut(tables: Tables, candidates: DataFrame, config: Config) -> int:
    """Where the future begins: audit.cut_quantile of availability, or later, in the middle of the evaluation's clocks.

    So examples of every split and candidates of evaluation lie before it.
    """
    (cut,) = availability_quantiles(tables.interactions, [config.audit.cut_quantile])
    clocks = sorted(row["known_by"] for row in candidates.select("known_by").distinct().collect())
    return max(cut, int(clocks[len(clocks) // 2])) if clocks else cut


def availability_quantiles(log: DataFrame, shares: Sequence[float]) -> list[int]:
    """The whole hour by which each share of the log was available: any partitioning counts those alike."""
    hours = F.ceil(F.col("available_time") / F.lit(_HOUR_US)).cast("long").alias("hour")
    rows = log.groupBy(hours).agg(F.count("*").alias("n")).collect()
    counts = {row["hour"]: row["n"] for row in rows}
    ordered = sorted(counts)
    reached = list(accumulate(counts[hour] for hour in ordered))
    places = [bisect_left(reached, share * reached[-1]) for share in shares]
    return [ordered[min(place, len(ordered) - 1)] * _HOUR_US for place in places]


def other_future(tables: Tables, cut: int, config: Config) -> Tables:
    """`tables` with another future, their rows in another order and in another number of partitions.

    Up to the cut nothing changes: not one event available by then, not one content version valid by then. Of what comes
    after it, some is deleted, some of the rest altered, and as much as is deleted made up and added.
    """
    log = tables.interactions
    past = F.col("available_time") <= cut
    kept = log.where(past | ~_chosen(config.seed, "drop", INTERACTIONS.names, config.audit.drop_share))
    altered = _altered_events(kept, cut, config)
    return disordered(
        Tables(
            interactions=altered.unionByName(_made_up_events(log, cut, config)),
            items=_other_content(tables.items, "item", cut, config),
            users=_other_content(tables.users, "user", cut, config),
        ),
        config,
    )


def disordered(tables: Tables, config: Config) -> Tables:
    """The same rows in another order, in another number of partitions."""

    def of(frame: DataFrame, key: Sequence[str]) -> DataFrame:
        partitions = int(frame.sparkSession.conf.get("spark.sql.shuffle.partitions", "8") or 8) + 3
        by_hash = F.xxhash64(F.lit(f"{config.seed}:order"), *key)
        return frame.repartition(partitions, by_hash).sortWithinPartitions(by_hash)

    return Tables(
        interactions=of(tables.interactions, INTERACTIONS.names),
        items=of(tables.items, ("item_id", "valid_from")),
        users=of(tables.users, ("user_id", "valid_from")),
    )


def _altered_events(log: DataFrame, cut: int, config: Config) -> DataFrame:
    """`log` with other arrivals, after the cut, and other weights for a share of what was available only after it."""
    chosen = (F.col("available_time") > cut) & _chosen(config.seed, "alter", INTERACTIONS.names, ALTERED_SHARE)

    def pick(purpose: str, below: int) -> Column:
        return _pick(config.seed, purpose, INTERACTIONS.names, below)

    changed = {
        "available_time": F.greatest("event_time", F.lit(cut + 1) + pick("other arrival", 7 * US_PER_DAY)),
        # A weight that names the event stays: two events must not become one.
        "weight": F.col("weight") + (0 if "weight" in config.quality.event_key else 1 + pick("other weight", 7)),
    }
    return log.select(
        *(
            F.when(chosen, changed[name]).otherwise(F.col(name)).alias(name) if name in changed else F.col(name)
            for name in INTERACTIONS.names
        )
    )


def _made_up_events(log: DataFrame, cut: int, config: Config) -> DataFrame:
    """About as many events as are dropped: altered copies of logged ones, all of them available only after the cut.

    Half of them happened before it, some right after an event whose label they would flip.
    """
    labels, seed = config.labels, config.seed

    def pick(purpose: str, below: int) -> Column:
        return _pick(seed, purpose, INTERACTIONS.names, below)

    def other(name: str) -> Column:
        rows = log.select(name).distinct().orderBy(F.xxhash64(F.lit(seed), name), name).limit(_POOL).collect()
        known = [F.lit(row[name]) for row in rows] or [F.lit("")]
        new = F.concat(F.lit(_MADE_UP), pick(f"new {name}", NEW_IDS).cast("string"))
        drawn = F.get(F.array(*known), pick(f"known {name}", len(known)).cast("int"))
        return F.when(pick(name, 8) < 2, F.col(name)).when(pick(name, 8) < 7, drawn).otherwise(new)

    flips = pick("kind", 6) == 0
    event_time = (
        F.when(flips, F.col("event_time") + pick("window", max(parse_duration(labels.label_window), 1)))
        .when(pick("kind", 6) <= 2, F.col("event_time") - pick("earlier", 3 * US_PER_DAY))
        .otherwise(F.lit(cut) + pick("future", 7 * US_PER_DAY))
    )
    actions = F.array(*[F.lit(action) for action in (*labels.positive_actions, labels.impression_action)])
    action = F.get(actions, pick("action", len(labels.positive_actions) + 1).cast("int"))
    made = log.where(_chosen(seed, "make", INTERACTIONS.names, _share_to_make(log, cut, config))).select(
        F.when(flips, F.col("user_id")).otherwise(other("user_id")).alias("user_id"),
        F.when(flips, F.col("item_id")).otherwise(other("item_id")).alias("item_id"),
        event_time.alias("event_time"),
        F.greatest(event_time, F.lit(cut + 1) + pick("later", 7 * US_PER_DAY)).alias("available_time"),
        F.when(flips, F.lit(labels.positive_actions[0])).otherwise(action).alias("action"),
        (F.col("weight") + pick("weight", 7)).alias("weight"),
    )
    # Events stay distinct by key, as the contract of the table says.
    key = list(INTERACTIONS.key)
    distinct = made.groupBy(*key).agg(F.min("available_time").alias("available_time"), F.min("weight").alias("weight"))
    return distinct.join(log.select(*key), on=key, how="left_anti").select(*INTERACTIONS.names)


def _share_to_make(log: DataFrame, cut: int, config: Config) -> float:
    """Share of the log to copy, so that as many are made up as are dropped, and some in any case."""
    future = log.agg(F.avg((F.col("available_time") > cut).cast("double"))).collect()[0][0] or 0.0
    return max(config.audit.drop_share * float(future), _LEAST_MADE)


def _other_content(versions: DataFrame, side: Side, cut: int, config: Config) -> DataFrame:
    """Later versions thinned out and some altered, and altered copies added after the cut, of known and of new ids."""
    contract = content_table(side, config.content_kinds(side))
    key, seed = list(contract.key), config.seed
    # When something came into being is a fact, not a version: no row that says so for an earlier time is taken away.
    facts = (F.col("valid_from") <= cut) | (F.col("created_at") <= cut)
    chosen = _chosen(seed, "drop", key, config.audit.drop_share)
    values = [column for column in contract if column.name not in (*key, "created_at")]
    other = (F.col("valid_from") > cut) & _chosen(seed, "alter", key, ALTERED_SHARE)
    kept = versions.where(F.coalesce(facts, F.lit(False)) | ~chosen).withColumns(
        {column.name: F.when(other, _altered(column)).otherwise(F.col(column.name)) for column in values}
    )
    valid_from = F.lit(cut + 1) + _pick(seed, "valid from", key, 7 * US_PER_DAY)
    is_new = _pick(seed, "is new", key, 4) == 0
    new = F.concat(F.lit(_MADE_UP), _pick(seed, "new", key, NEW_IDS).cast("string"))
    made = versions.where(_chosen(seed, "make", key, max(config.audit.drop_share, _LEAST_MADE))).select(
        F.when(is_new, new).otherwise(F.col(f"{side}_id")).alias(f"{side}_id"),
        valid_from.alias("valid_from"),
        F.when(is_new, valid_from).otherwise(F.col("created_at")).alias("created_at"),
        *[_altered(column).alias(column.name) for column in values],
    )
    distinct = made.join(versions.select(*key), on=key, how="left_anti").groupBy(*key)
    fresh = distinct.agg(*[F.min(name).alias(name) for name in contract.names if name not in key])
    return select_contract(kept.unionByName(fresh), contract)


def _altered(column: ContractColumn) -> Column:
    """Another value of the column's type."""
    value = F.col(column.name)
    match column.type:
        case "string":
            return F.concat(F.lit(_MADE_UP), F.coalesce(value, F.lit("")))
        case "list<string>":
            return F.concat(F.array(F.lit(_MADE_UP)), F.coalesce(value, F.array().cast("array<string>")))
        case "list<float32>":
            return F.transform(value, lambda x: (-x - F.lit(1)).cast("float"))
        case _:
            return F.coalesce(-value - 1, F.lit(0).cast("double"))


def _chosen(seed: int, purpose: str, key: list[str], share: float) -> Column:
    """True for a seeded share of the rows."""
    return _pick(seed, purpose, key, _RESOLUTION) < F.lit(int(share * _RESOLUTION))


def _pick(seed: int, purpose: str, key: list[str], below: int) -> Column:
    """A seeded whole number from 0 to below - 1 for each key, another one for each purpose."""
    return F.pmod(F.xxhash64(F.lit(f"{seed}:audit:{purpose}"), *key), F.lit(below))
