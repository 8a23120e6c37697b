"""Daily snapshots: a dataset a day of what came into sight, and one of the snapshot made of it and the day before's.

`OUT/partials/DAY` and `OUT/snapshots/DAY` are published like any other dataset. A snapshot's manifest names the
partials and the state that it is made of: where one of them is replaced, it is stale, is named, and is made again.
"""

import datetime as dt
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial as later

import fsspec
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.launch import Draft, Job, find_or_make, open_parents, outcome_line, relevant, say
from pipelines.code import code_version
from pipelines.config import Config, parse_duration, utc_microseconds
from pipelines.errors import ConfigError, InputError, WorkspaceError
from pipelines.examples.sides import recent_positives
from pipelines.examples.tables import Tables, clean_tables
from pipelines.preferences.daily import longest_window_us, next_state, snapshots, state_tables
from pipelines.preferences.partials import came_into_sight, layout, partial
from pipelines.preferences.snapshot import snapshot_contracts
from pipelines.spark import read_parquet, read_table, spark_session, together, write_table
from pipelines.storage import Dataset, Workspace
from schemas.columns import Table
from schemas.fitted import Fitted
from schemas.manifest import TableEntry, digest

SECTIONS = ("source", "labels", "preferences", "storage")


def make(
    job: Job, config: Config, workspace: Workspace, first: str | None, last: str | None, *, force: bool = False
) -> None:
    """Make the snapshots from `first` to `last`, then those that they make stale. Raises InputError for a bad range."""
    if config.preferences.accuracy != "snapshot":
        raise ConfigError(
            "daily snapshots must be of `preferences.accuracy: snapshot`, got exact, which serves what is known at "
            "each moment; set it, or leave out --from and --to"
        )
    parents = open_parents(job, ("clean", "preferences"), config, workspace)
    spark = spark_session(config.spark)
    fitted = Fitted.model_validate(parents["preferences"].read_json("fitted"))
    tables = clean_tables(spark, parents["clean"], config)
    begins, ends = _ends(tables)
    clean = parents["clean"].manifest.content_digest
    days = _Days(config, workspace, spark, tables, clean, ends, fitted, force)
    period = parse_duration(config.preferences.period)
    span = ((begins // period + 1) * period, parents["preferences"].manifest.as_of["snapshot_time"])
    days.make(*_range(first, last, span, config, days.published))


def _range(
    first: str | None, last: str | None, span: tuple[int, int], config: Config, published: Sequence[int]
) -> tuple[int, int]:
    """The boundaries asked for. Raises InputError where they are none, or would leave a gap."""
    if first is None:
        raise InputError(f"--to must come with --from, got --to {last} alone; say where the range begins")
    period = parse_duration(config.preferences.period)
    start, end = (
        _boundary(flag, text, period) for flag, text in (("--from", first), ("--to", first if last is None else last))
    )
    if start > end:
        raise InputError(f"--from must not lie after --to, got {first} and {last}; exchange them")
    if start < span[0] or end > span[1]:
        raise InputError(
            f"snapshots must be of the log, whose first is {name_of(span[0])} and whose last is {name_of(span[1])}, "
            f"got {name_of(start)} to {name_of(end)}; stay within, or run `thaw check_quality` and "
            "`thaw compute_preferences` on a longer log first"
        )
    if published and not any(start - period <= day <= end + period for day in published):
        is_before = end < published[0]
        near = f"--to {name_of(published[0] - period)}" if is_before else f"--from {name_of(published[-1] + period)}"
        raise InputError(
            f"snapshots must follow each other, there are those from {name_of(published[0])} to "
            f"{name_of(published[-1])}, got {name_of(start)} to {name_of(end)}; set {near}"
        )
    return start, end


def _ends(tables: Tables) -> tuple[int, int]:
    """When the first and the last event happened."""
    row = tables.interactions.agg(F.min("event_time"), F.max("event_time")).collect()[0]
    return row[0], row[1]


def _boundary(flag: str, text: str, period: int) -> int:
    moment = utc_microseconds(text, flag)
    if moment % period:
        near = moment - moment % period
        raise InputError(
            f"{flag} must be a boundary, a whole multiple of preferences.period since 1970, got {text}; the one before "
            f"it is {name_of(near)}"
        )
    return moment


def name_of(boundary: int) -> str:
    """A boundary as a folder's name: `2025-02-20`, or `2025-02-20T060000Z` where days are not whole."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=boundary)
    if moment == moment.replace(hour=0, minute=0, second=0, microsecond=0):
        return moment.strftime("%Y-%m-%d")
    return moment.strftime("%Y-%m-%dT%H%M%S") + (f".{moment.microsecond:06d}Z" if moment.microsecond else "Z")


@dataclass(frozen=True)
class _Days:
    """The published days of a workspace, and how another is made."""

    config: Config
    workspace: Workspace
    spark: SparkSession
    tables: Tables
    clean: str
    """Content digest of the clean tables."""
    log_ends: int
    """When the last event of the clean log happened: so far it goes."""
    fitted: Fitted
    force: bool
    opened: dict[str, Dataset | None] = field(default_factory=dict)
    """Published days by name, as this run has found or made them."""

    @property
    def period(self) -> int:
        return parse_duration(self.config.preferences.period)

    @property
    def published(self) -> list[int]:
        """Boundaries of the published snapshots, ascending: each follows the one before it."""
        fs, root = fsspec.core.url_to_fs(self.workspace.root)
        folder = posixpath.join(root, "snapshots")
        names = (
            [posixpath.basename(path.rstrip("/")) for path in fs.ls(folder, detail=False)] if fs.isdir(folder) else []
        )
        found = [self._find(f"snapshots/{name}") for name in names]
        return sorted(dataset.manifest.as_of["snapshot_time"] for dataset in found if dataset is not None)

    def make(self, start: int, end: int) -> None:
        """The range, and every other day that is not made of what is there now, oldest first.

        Those are the days after one that came out differently, the one that was the first and has a day before it now,
        one made before all that it should hold had arrived, and whatever an interrupted run has left.
        """
        there = set(self.published)
        self._check_configuration(sorted(there))
        asked = range(start, end + 1, self.period)
        stale = 0
        for boundary in sorted(there.union(asked)):
            before = boundary - self.period if boundary - self.period in there else None
            if boundary in asked:
                say(f"[{asked.index(boundary) + 1}/{len(asked)}] {name_of(boundary)}")
                self._make_partial(boundary, before)
            elif self._is_current(boundary, before):
                continue
            else:
                stale += 1
                say(f"{name_of(boundary)} is stale: it was made of days that have changed; it is made again")
                if not self._is_whole(boundary, before):
                    self._make_partial(boundary, before)
            self._make_snapshot(boundary, before)
            there.add(boundary)
        if len(there) > len(asked):
            say(f"other snapshots that were stale: {stale or 'none'}")

    def _is_current(self, boundary: int, before: int | None) -> bool:
        """Whether a published snapshot is made of what is there now."""
        made_of = self._current("snapshots", boundary).manifest.parents
        return self._is_whole(boundary, before) and made_of == self._parents(boundary, before)

    def _is_whole(self, boundary: int, before: int | None) -> bool:
        """Whether a day's partial holds all that came into sight since `before`, as far as the log goes now."""
        made = self._current("partials", boundary).manifest
        landed = boundary + parse_duration(self.config.preferences.landing_delay)
        is_complete = made.notes["log_ends"] >= landed or made.parents["clean"] == self.clean
        return bool(made.facts["since"] == before and is_complete)

    def _check_configuration(self, there: Sequence[int]) -> None:
        """Raises WorkspaceError where the days before were made by another configuration."""
        if not there:
            return
        now = self.config.model_dump(mode="json")
        for day in there:
            then = self._current("snapshots", day).manifest
            changed = [f"`{name}` section" for name in ("labels", "preferences") if then.config[name] != now[name]]
            if then.facts["layout"] != self._layout():
                changed.append("content of items, or version of Thaw")
            if changed:
                raise WorkspaceError(
                    f"snapshots must be of one configuration, but that of {name_of(day)} was made with another "
                    f"{changed[0]}; choose another --out, or remove {self.workspace.root}/snapshots and "
                    f"{self.workspace.root}/partials and begin anew"
                )

    def _layout(self) -> str:
        """Digest of what the columns of a state mean."""
        return digest([repr(layout(self.config.preferences)), self.config.content_kinds("item")])

    def _make_partial(self, boundary: int, before: int | None) -> Dataset:
        key = digest(["partials", boundary, before, self._settings(), self.clean, code_version()])

        def draft(staging: str) -> Draft:
            options = self.config.preferences
            fresh = came_into_sight(self.tables.interactions, boundary, before, options)
            seen = Tables(fresh, self.tables.items, self.tables.users)
            frames = partial(fresh, recent_positives(seen, self.config), self.tables.items, self.config)
            entries = self._write(frames, layout(options).tables(self.config), staging)
            return Draft(entries, {"since": before}, {"snapshot_time": boundary}, {"log_ends": self.log_ends})

        return self._publish("partials", boundary, key, {"clean": self.clean}, draft)

    def _make_snapshot(self, boundary: int, before: int | None) -> Dataset:
        parents = self._parents(boundary, before)
        key = digest(["snapshots", boundary, self._settings(), parents, self.fitted.priors, code_version()])

        def draft(staging: str) -> Draft:
            contracts, options = state_tables(self.config), self.config.preferences
            own = self._current("partials", boundary)
            new = self._read(own, layout(options).tables(self.config))
            earlier = None if before is None else self._read(self._current("snapshots", before), contracts)
            entries = self._write(next_state(earlier, new, boundary, self.config), contracts, staging)
            paths = {name: [posixpath.join(staging, s.path) for s in entry.shards] for name, entry in entries.items()}
            state = {name: read_parquet(self.spark, paths[name], contract) for name, contract in contracts.items()}
            counts = layout(options).tables(self.config)["counts"]
            days = self._within(boundary)
            for day in days:
                day.check_sizes()
            within = read_parquet(self.spark, [path for day in days for path in day.table_paths("counts")], counts)
            made = snapshots(state, within, boundary, self.config, self.fitted.priors)
            served = {contract.name: contract for contract in snapshot_contracts(options).values()}
            entries |= self._write(made, served, staging)
            served_from = boundary + parse_duration(options.publish_delay)
            as_of = {"snapshot_time": boundary, "served_from": served_from}
            return Draft(entries, {"priors": self.fitted.priors, "layout": self._layout()}, as_of)

        return self._publish("snapshots", boundary, key, parents, draft)

    def _parents(self, boundary: int, before: int | None) -> dict[str, str]:
        """What a snapshot is made of: its partials, and the state of the one before it."""
        parents = {day.manifest.dataset: day.manifest.content_digest for day in self._within(boundary)}
        if before is not None:
            state = self._current("snapshots", before)
            tables = state_tables(self.config)
            # Of the state alone: what is served of it may change with the priors.
            parents[f"{state.manifest.dataset}:state"] = digest(
                [[name, [shard.sha256 for shard in state.manifest.tables[name].shards]] for name in tables]
            )
        return parents

    def _within(self, boundary: int) -> list[Dataset]:
        """The partials whose events can lie in a window of the snapshot, newest first, back to the first day."""
        found = []
        for day in range(boundary, boundary - longest_window_us(self.config), -self.period):
            dataset = self._current("partials", day)
            found.append(dataset)
            if dataset.manifest.facts["since"] is None:
                break
        return found

    def _publish(
        self, kind: str, boundary: int, key: str, parents: Mapping[str, str], draft: Callable[[str], Draft]
    ) -> Dataset:
        name = f"{kind}/{name_of(boundary)}"
        outcome = find_or_make(
            self.workspace,
            name,
            key,
            draft,
            config=self.config,
            sections=SECTIONS,
            parents=parents,
            force=self.force,
            started=time.monotonic(),
        )
        self.opened[name] = outcome.dataset
        say("  " + outcome_line(kind, outcome))
        return outcome.dataset

    def _write(
        self, frames: Mapping[str, DataFrame], contracts: Mapping[str, Table], staging: str
    ) -> dict[str, TableEntry]:
        files = self.config.storage.parquet_files
        work = [
            later(
                write_table, frame, staging, name, contracts[name], files=files, by=_by(contracts[name]),
                order=contracts[name].key or contracts[name].names,
            )
            for name, frame in frames.items()
        ]  # fmt: skip
        return dict(zip(frames, together(*work), strict=True))

    def _read(self, dataset: Dataset, contracts: Mapping[str, Table]) -> dict[str, DataFrame]:
        dataset.check_sizes()
        return {name: read_table(self.spark, dataset, name, contract) for name, contract in contracts.items()}

    def _current(self, kind: str, boundary: int) -> Dataset:
        name = f"{kind}/{name_of(boundary)}"
        found = self._find(name)
        if found is None:
            raise WorkspaceError(f"{name} must be there, it is not; make it with --from {name_of(boundary)}")
        return found

    def _find(self, name: str) -> Dataset | None:
        if name not in self.opened:
            self.opened[name] = self.workspace.current(name)
        return self.opened[name]

    def _settings(self) -> dict[str, object]:
        return relevant(self.config, SECTIONS)


def _by(contract: Table) -> list[str]:
    """Rows of one key in one file."""
    return [contract.names[0]] if not contract.key else list(contract.key[:2])
