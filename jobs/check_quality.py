"""Raw logs and content tables to clean ones; rows that break a rule go to a counted quarantine.

Great Expectations checks what comes out; a source with too many bad rows stops the run with exit code 3.
"""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from pyspark.sql import DataFrame, Observation

from jobs.launch import Context, Draft, Job, main
from pipelines import storage
from pipelines.config import Config, ContentSource, parse_duration
from pipelines.errors import EmptyDayError, InputError, SourceError, ThawError
from pipelines.quality import clean, gate
from pipelines.quality.data_docs import write_docs
from pipelines.quality.read import readable
from pipelines.quality.sight import events_of_last_period
from pipelines.quality.sources import (
    data_address,
    labelled_sources,
    published_sources,
    source_files,
    with_datasets,
)
from pipelines.spark import persisted, spark_session, together, write_table
from schemas.columns import Table
from schemas.content import Side, content_table
from schemas.interactions import INTERACTIONS, QUARANTINE
from schemas.to_expectations import suite

SIDES: dict[str, Side] = {"items": "item", "users": "user"}


def fingerprint(config: Config, data: str) -> str:
    """Digest of the configured source files: names and contents. Datasets are parents, by their own digests."""
    sources = {k: s for k, s in labelled_sources(config).items() if not (isinstance(s, ContentSource) and s.dataset)}
    files = {file for label, source in sources.items() for file in source_files(data, label, source)}
    return storage.fingerprint(data_address(data), sorted(files))


def run(context: Context) -> Draft:
    """Read and judge every row, count, let the gate decide, write."""
    context = replace(context, config=with_datasets(context.config, context.parents))
    config, data = context.config, context.data or ""
    require_landed(config, time.time())
    spark = spark_session(config.spark)
    clean.check_sources(spark, config)
    sources = labelled_sources(config)
    logs = [label for label in sources if label.startswith("interactions")]
    with ExitStack() as kept:
        later: dict[str, int] = {}

        def judge(label: str) -> tuple[DataFrame, dict[str, gate.Tally], dict[str, list[gate.Reason]]]:
            with readable(label):
                found = (
                    clean.marked_log(spark, data, config)
                    if label == "interactions"
                    else clean.marked_content(spark, data, label, config)
                )
                kept.enter_context(persisted(found.rows))
                tallies, reasons = gate.tally(
                    found.rows, {source: partial(_rows, seen) for source, seen in found.read.items()}
                )
                for source, unseen in found.later.items():
                    later[source] = _rows(unseen)
                    tallies[source] += gate.Tally(rows_in=-later[source])
                return found.rows, tallies, reasons

        labels = ["interactions", *(label for label in sources if label not in logs)]
        judged = together(*(partial(judge, label) for label in labels))
        marked = {label: rows for label, (rows, _, _) in zip(labels, judged, strict=True)}
        tallies = {source: count for _, counts, _ in judged for source, count in counts.items()}
        reasons = {source: found for _, _, broken in judged for source, found in broken.items()}
        total = sum((tallies[label] for label in logs), gate.Tally())
        for name, count in {**tallies, "all logs": total}.items():
            context.say(count.line(name))
            count.check(name)
        if left := {source: rows for source, rows in later.items() if rows}:
            told = ", ".join(f"{source} {rows:,}" for source, rows in sorted(left.items()))
            context.say(f"left for later runs, as they came into sight after --as-of: {told}")
        log = clean.interactions(marked["interactions"])
        require_day(log, total, config)
        if not total.rows_in:
            raise SourceError(
                f"the log must have rows, {', '.join(f'source.{label}' for label in logs)} has none; "
                "correct its path, or --data, or give a log with events"
            )
        gate.check_shares(tallies, reasons, config.quality.max_quarantine_share)
        contents = {name: clean.content(spark, side, marked, config) for name, side in SIDES.items()}
        kept.enter_context(persisted(*contents.values()))
        declared = [name for name in SIDES if any(label.startswith(name) for label in marked)]
        # What is written while the expectations are checked is thrown away if one fails.
        outcomes, entries, without = together(
            lambda: check(log, {name: contents[name] for name in declared}, config),
            lambda: write(log, contents, clean.quarantine(*marked.values()), context),
            lambda: {name: clean.count_without_content(log, contents[name], side) for name, side in SIDES.items()},
        )
    for name, expected in (
        ("interactions", total.out),
        ("quarantine", sum(count.quarantined for count in tallies.values())),
    ):
        if entries[name].rows != expected:
            raise ThawError(f"{name} must have {expected:,} rows as counted, {entries[name].rows:,} were written")
    for name in declared:
        if without[name]:
            context.say(
                f"note: {without[name]:,} {name} of the log are not in source.{name}, and so without content; "
                "check that both write ids alike if they should be there"
            )
    expectations = {name: gate.verdicts(outcome) for name, outcome in outcomes.items()}
    facts = {
        "rows": total.facts(),
        "sources": {label: tallies[label].facts() for label in logs},
        "content": {label: tallies[label].facts() for label in sources if label not in logs},
        "expectations": {name: {"passed": len(results), "failed": 0} for name, results in expectations.items()},
        **{f"{name}_without_content": count for name, count in without.items()},
    }
    report = {
        "expectations": expectations,
        "reasons": {label: [asdict(reason) for reason in found] for label, found in reasons.items()},
    }
    entries["report"] = storage.write_json(context.staging, "report.json", report)
    entries["data_docs"] = write_docs(context.staging, outcomes)
    # How much more there was to read is not content: the same day, read again later, is the same.
    as_of = {} if config.horizon is None else config.horizon._asdict()
    return Draft(entries, facts, as_of, {"raw_files": context.raw, **({"later": later} if as_of else {})})


def require_landed(config: Config, now_s: float) -> None:
    """Raises InputError where `source.as_of` names what cannot have arrived yet, by the clock (UTC)."""
    if config.horizon is not None and config.horizon.known_by > now_s * 1_000_000:
        raise InputError(
            f"source.as_of must be a moment whose events have landed, got {config.source.as_of}, which lands "
            f"preferences.landing_delay ({config.preferences.landing_delay}) after it; choose an earlier one, or wait"
        )


def require_day(log: DataFrame, total: gate.Tally, config: Config) -> None:
    """Raises EmptyDayError where nothing happened in the last day, or longer period, before `source.as_of`."""
    horizon = config.horizon
    if horizon is None:
        return
    # A shop may sleep for a period of hours; days are what a schedule asks for.
    back = max(config.preferences.period, "1d", key=parse_duration)
    if not total.out or not events_of_last_period(log, horizon, parse_duration(back)):
        raise EmptyDayError(
            f"the log must have events of the {back} before {config.source.as_of}, it has none that arrived by "
            f"{config.preferences.landing_delay} after it; deliver them and run the day again, or go on: the next "
            "day's run reads whatever has arrived by then"
        )


def check(log: DataFrame, contents: Mapping[str, DataFrame], config: Config) -> dict[str, Any]:
    """Validation results of what would be published, by table. Raises QualityGateError where an expectation fails."""
    results = {"interactions": gate.expect(log, suite(INTERACTIONS, **clean.log_rules(config)))}
    for name, rows in contents.items():
        results[name] = gate.expect(rows, suite(_content_table(name, config)))
    return results


def write(log: DataFrame, contents: Mapping[str, DataFrame], bad: DataFrame, context: Context) -> dict[str, Any]:
    """Write the clean tables and the quarantine: entries by table."""
    files = context.config.storage.parquet_files
    # In order of time, so that a reader of some days skips the row groups of all others.
    by_time = ["event_time", *(name for name in INTERACTIONS.names if name != "event_time")]
    wanted: dict[str, tuple[DataFrame, Table, Sequence[str], Sequence[str]]] = {
        "interactions": (log, INTERACTIONS, ["user_id"], by_time)
    }
    for name, rows in contents.items():
        table = _content_table(name, context.config)
        wanted[name] = rows, table, table.key[:1], table.key
    wanted["quarantine"] = bad, QUARANTINE, QUARANTINE.names, QUARANTINE.names
    return {
        name: write_table(rows, context.staging, name, table, files=files, by=by, order=order)
        for name, (rows, table, by, order) in wanted.items()
    }


def _rows(observations: Iterable[Observation]) -> int:
    return sum(observation.get["rows"] for observation in observations)


def _content_table(name: str, config: Config) -> Table:
    return content_table(SIDES[name], config.content_kinds(SIDES[name]))


JOB = Job(
    name="check_quality",
    dataset="clean",
    parents=(),
    sections=("source", "quality", "storage"),
    run=run,
    needs=published_sources,
    reads_data=True,
    fingerprint=fingerprint,
    depends=lambda config: str(config.horizon or ""),
)

if __name__ == "__main__":
    sys.exit(main(JOB))
