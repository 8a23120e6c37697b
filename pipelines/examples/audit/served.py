"""Serving beside training: what the daily job would have served on some day, and the features that its examples carry.

The log and the content tables are cut to what that day's job could read, and go through serving's own code. Nothing of
what came later is there, so that examples which rest on it differ.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config, parse_duration
from pipelines.examples.audit.evidence import only, rows_of
from pipelines.examples.audit.recheck import DECAY_TOLERANCE, TOLERANCE, same
from pipelines.examples.audit.report import Check, Skipped, merged, mismatch
from pipelines.examples.serving import serving_items, serving_users
from pipelines.examples.tables import Tables
from pipelines.features import feature_set
from pipelines.preferences.clock import Moment
from schemas.content import Side
from schemas.examples import SideFeatures
from schemas.fitted import Fitted

NAME = "features as served"
Row = dict[str, Any]


def check_served(
    examples: DataFrame, tables: Tables, config: Config, fitted: Fitted, count: int, days: int = 1
) -> list[Check | Skipped]:
    """One check a side, over about `count` examples of later splits on each of `days` seeded days."""
    if config.preferences.accuracy == "exact":
        return [Skipped(NAME, "served", "exact statistics are served by whoever asks, as of that moment")]
    later, features = examples.where("split != 'train'"), feature_set(config)
    clock = ("as_of", "known_by")
    chosen = later.select(*clock).distinct().orderBy(F.xxhash64(F.lit(config.seed), *clock), *clock).limit(days)
    looked: dict[Side, tuple[int, list[str]]] = {"user": (0, []), "item": (0, [])}
    shown = []
    for as_of, known_by in sorted(tuple(row.values()) for row in rows_of(chosen)):
        moment = Moment(as_of, known_by, as_of + parse_duration(config.preferences.publish_delay))
        order = (F.xxhash64(F.lit(config.seed), "example_id"), "example_id")
        rows = rows_of(
            later.where((F.col("as_of") == as_of) & (F.col("known_by") == known_by)).orderBy(*order).limit(count)
        )
        shown.append(f"{dt.datetime.fromtimestamp(as_of / 1e6, dt.UTC):%Y-%m-%d %H:%M}")
        for own in (features.user, features.item):
            found = [broken for broken in _compared(own, rows, tables, config, fitted, moment) if broken is not None]
            checked, failures = looked[own.side]
            looked[own.side] = checked + len(found), failures + [text for text in found if text]
    told = f"equal to what serving held of {', '.join(shown)}"
    return [
        merged(f"{NAME}: {side}", "served", checked, failures, told)
        if checked
        else Skipped(f"{NAME}: {side}", "served", "no example of a later split is of what serving held that day")
        for side, (checked, failures) in looked.items()
    ]


def _compared(
    features: SideFeatures, rows: Sequence[Row], tables: Tables, config: Config, fitted: Fitted, moment: Moment
) -> Iterator[str | None]:
    """Per example what differs, empty where nothing does; None of one whose content that day's job had not read."""
    side = features.side
    key, ids = f"{side}_id", {row[f"{side}_id"] for row in rows}
    then = as_it_stood(tables, moment)
    if side == "user":
        own = Tables(only(then.interactions, key, ids), then.items, only(then.users, key, ids))
        served = serving_users(own, config, fitted, moment)
    else:
        served = serving_items(then, config, fitted, moment)
    held = {row[key]: row for row in rows_of(only(served, key, ids))}
    versions = only(tables.users if side == "user" else tables.items, key, ids)
    changes = rows_of(versions.where(F.col("valid_from") > moment.known_by).select(key, "valid_from"))
    for row in rows:
        if any(change[key] == row[key] and change["valid_from"] <= row["event_time"] for change in changes):
            yield None
        elif row[key] in held:
            yield _difference(row, held[row[key]], [column.name for column in features.columns])
        elif side == "item":
            yield None  # it came after that day's job, and is served by its content, which the caller brings
        else:
            yield _difference(row, {}, [*features.statistic_names, *features.bags])


def as_it_stood(tables: Tables, moment: Moment) -> Tables:
    """What that day's job could read: events before its boundary, and content, that had landed when it began."""
    log = tables.interactions.where((F.col("event_time") < moment.as_of) & (F.col("available_time") <= moment.known_by))
    items, users = (part.where(F.col("valid_from") <= moment.known_by) for part in (tables.items, tables.users))
    return Tables(log, items, users)


def _difference(row: Row, served: Row, names: Sequence[str]) -> str:
    for name in names:
        tolerance = DECAY_TOLERANCE if "_decayed_" in name else TOLERANCE
        if not same(row[name], served.get(name), tolerance):
            return mismatch(f"example {row['example_id']}", name, row[name], served.get(name))
    return ""
