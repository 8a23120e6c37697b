"""Whether the clean tables say what the raw files say: sampled raw rows beside the clean rows that they became.

Everything else in this audit begins at the clean tables, where a zone or a unit read wrongly has moved all times alike.
How raw rows are read is `raw_rows`', what they mean `raw_values`'.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config, ContentSource, InteractionSource
from pipelines.errors import SourceError
from pipelines.examples.audit.evidence import only, rows_of
from pipelines.examples.audit.raw_rows import RawRow, sample_rows
from pipelines.examples.audit.raw_values import Event, Unsupported, event_of, version_of
from pipelines.examples.audit.report import Check, Skipped, mismatch
from pipelines.examples.tables import Tables
from pipelines.quality.sources import Source, labelled_sources, source_files
from schemas.columns import TIME_MIN_US
from schemas.content import Side
from schemas.interactions import INTERACTIONS

MOST_COPIES = 0.5
"""A clean row of the same event that was available earlier explains a raw row as a copy. Where more than this share of
a sample would be explained so, availability itself has moved."""
REMEDY = "what reads source.{label} and plain Python disagree: check its unit, zone and columns"

T = TypeVar("T")


@dataclass(frozen=True)
class RawData:
    """The raw files that the clean tables were made of."""

    folder: str
    quarantine: DataFrame
    """The rows set aside (QUARANTINE)."""
    read_at: dt.datetime
    """When they were read: files that changed later are not what the clean tables were made of."""


def check_raw(raw: RawData | None, tables: Tables, config: Config, count: int) -> tuple[list[Check], list[Skipped]]:
    """One check a source whose rows say when: about `count` of its raw rows, read plainly, are in the clean tables."""
    checks: list[Check] = []
    skipped: list[Skipped] = []
    for label, source in labelled_sources(config).items():
        name, why = f"raw rows: {label}", _needless(source)
        if why:
            skipped.append(Skipped(name, "raw", why))
            continue
        try:
            if raw is None:
                raise Unsupported("the raw data was not there; say where it is with --data, or set THAW_DATA")
            rows = sample_rows(_files(raw, label, source), source, count, config.seed)
            if isinstance(source, InteractionSource):
                checks.append(_check_log(name, label, rows, source, raw, tables, config))
            else:
                versions = tables.users if label.startswith("users") else tables.items
                checks.append(_check_content(name, label, rows, source, raw, versions, config))
        except (Unsupported, SourceError, OSError, EOFError, pa.ArrowException) as error:
            skipped.append(Skipped(name, "raw", str(error)))
    return checks, skipped


def _needless(source: Source) -> str:
    """Why there is nothing to compare; empty where there is."""
    if isinstance(source, ContentSource):
        if source.dataset:
            return "it is a published dataset, no raw rows"
        if source.accumulate:
            return "its rows add up to versions, a version is not a row"
        if not source.valid_from and not source.created_at:
            return "its rows say nothing of when"
    return ""


def _files(raw: RawData, label: str, source: Source) -> list[str]:
    """The source's files as they were when they were read. Raises Unsupported where none is."""
    fs, _ = fsspec.core.url_to_fs(raw.folder)
    unchanged = []
    for file in source_files(raw.folder, label, source):
        path = fs._strip_protocol(file)
        try:
            modified = fs.modified(path)
        except NotImplementedError:
            modified = raw.read_at
        if fs.size(path) and modified.replace(tzinfo=modified.tzinfo or dt.UTC) <= raw.read_at:
            unchanged.append(file)
    if not unchanged:
        raise Unsupported("every file of it is newer than the clean tables; run check_quality again")
    return unchanged


def _check_log(
    name: str,
    label: str,
    rows: Sequence[RawRow],
    source: InteractionSource,
    raw: RawData,
    tables: Tables,
    config: Config,
) -> Check:
    """Sampled events beside the clean log."""
    events = _valid(rows, lambda values: _in_sight(event_of(values, source, config.quality), config), name)
    clean = only(tables.interactions, "user_id", {str(event["user_id"]) for _, event in events})
    clean = only(clean, "item_id", {str(event["item_id"]) for _, event in events})
    found: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for known in rows_of(clean.select(*INTERACTIONS.names)):
        found.setdefault((known["user_id"], known["item_id"]), []).append(known)

    copies: list[tuple[RawRow, Event, list[dict[str, Any]]]] = []
    missing: list[tuple[RawRow, Event, list[dict[str, Any]]]] = []
    for row, event in events:
        there = found.get((event["user_id"], event["item_id"]), [])
        if event in there:
            continue
        earlier = [
            other
            for other in there
            if all(other[key] == event[key] for key in config.quality.event_key)
            and other["available_time"] <= event["available_time"]
        ]
        (copies if earlier else missing).append((row, event, there))
    if len(copies) > MOST_COPIES * len(events):
        missing, copies = [*missing, *copies], []
    aside = _set_aside([row for row, _, _ in missing], label, source, (source.user_id, source.item_id), raw)
    lost = [(row, event, there) for row, event, there in missing if id(row) not in aside]
    detail = (
        f"{len(events):,} of {len(rows):,} sampled rows are plainly valid: all are clean rows, or copies "
        f"({len(copies):,}), or set aside ({len(aside):,})"
    )
    if lost:
        detail = f"{_difference(*lost[0])}; {REMEDY.format(label=label)}"
    return Check(name, "raw", len(events), len(lost), detail)


def _check_content(
    name: str,
    label: str,
    rows: Sequence[RawRow],
    source: ContentSource,
    raw: RawData,
    versions: DataFrame,
    config: Config,
) -> Check:
    """When sampled rows of content apply from, and when what they describe came into being."""
    side: Side = "user" if label.startswith("users") else "item"
    told = _valid(rows, lambda values: _version_in_sight(version_of(values, source), config), name)
    clean = only(versions, f"{side}_id", {key for _, (key, _, _) in told})
    found = {(row[f"{side}_id"], row["valid_from"]): row["created_at"] for row in rows_of(clean)}
    sources = config.source.users if side == "user" else config.source.items
    # Where several sources say when something came into being, the first of them is believed.
    says_created = source.created_at and sum(bool(other.created_at) for other in sources) == 1
    missing = [
        (row, key, valid, created)
        for row, (key, valid, created) in told
        if (key, valid) not in found or (says_created and found[key, valid] != created)
    ]
    aside = _set_aside([row for row, *_ in missing], label, source, (source.id,), raw)
    lost = [other for other in missing if id(other[0]) not in aside]
    detail = (
        f"{len(told):,} of {len(rows):,} sampled rows are plainly valid: all versions, or set aside ({len(aside):,})"
    )
    if lost:
        row, key, valid, created = lost[0]
        times = sorted(time for other, time in found if other == key)
        there, should = (times, valid) if valid not in times else (found[key, valid], created)
        column = "valid_from" if valid not in times else "created_at"
        detail = f"{mismatch(f'{row.file}, {side} {key}', column, there, should)}; {REMEDY.format(label=label)}"
    return Check(name, "raw", len(told), len(lost), detail)


def _valid(rows: Sequence[RawRow], read: Callable[[Any], T | None], name: str) -> list[tuple[RawRow, T]]:
    """Rows that plain Python finds valid, with what they say. Raises Unsupported where there is none."""
    found = [(row, value) for row in rows if (value := read(row.values)) is not None]
    if not found:
        raise Unsupported(f"plain Python finds none of {len(rows):,} sampled rows valid")
    return found


def _in_sight(event: Event | None, config: Config) -> Event | None:
    """None for an event that the clean log must not hold yet."""
    if event is None or config.horizon is None:
        return event
    as_of, known_by = config.horizon
    return event if int(event["event_time"]) < as_of and int(event["available_time"]) <= known_by else None


def _version_in_sight(
    version: tuple[str, int, int | None] | None, config: Config
) -> tuple[str, int, int | None] | None:
    """None for a version that the clean tables must not hold yet."""
    if version is None or config.horizon is None:
        return version
    _, valid, created = version
    since = created if valid == TIME_MIN_US and created is not None else valid
    return version if since <= config.horizon.known_by else None


def _set_aside(rows: Sequence[RawRow], label: str, source: Source, ids: Sequence[str], raw: RawData) -> set[int]:
    """Identities (`id`) of those of `rows` that are in the quarantine, by their ids as written."""
    if not rows:
        return set()
    names = list(ids)
    if source.format != "parquet" and isinstance(source, InteractionSource):
        names.append(source.event_time.column)  # Parquet's times are written otherwise there
    values = F.from_json("row", "map<string,string>")
    kept = raw.quarantine.where(F.col("source") == label).select(
        *[values[name].alias(f"c{i}") for i, name in enumerate(names)]
    )
    there = {tuple(row.values()) for row in rows_of(kept.distinct())}
    return {id(row) for row in rows if tuple(str(row.values.get(name)) for name in names) in there}


def _difference(row: RawRow, event: Event, there: Sequence[dict[str, Any]]) -> str:
    """The first column of the nearest clean row that is not what the raw row says."""
    where = f"{row.file}, user {event['user_id']}, item {event['item_id']}"
    nearest = min(
        there,
        key=lambda other: (other["action"] != event["action"], abs(other["event_time"] - int(event["event_time"]))),
        default=None,
    )
    if nearest is None:
        return f"{where} at {event['event_time']} is neither in the clean log nor set aside"
    column = next(name for name in INTERACTIONS.names if nearest[name] != event[name])
    return mismatch(where, column, nearest[column], event[column])
