"""Raw logs and content tables to clean ones; rows that break a rule go to a counted quarantine.

Great Expectations checks what comes out; a source with too many bad rows stops the run with exit code 3.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from pyspark.sql import DataFrame

from jobs.launch import Context, Draft, Job, main
from pipelines import storage
from pipelines.config import Config
from pipelines.errors import SourceError, ThawError
from pipelines.quality import clean, gate
from pipelines.quality.read import readable
from pipelines.quality.sources import data_address, labelled_sources, source_files
from pipelines.spark import spark_session, together, write_table
from schemas.content import Side, content_table
from schemas.interactions import INTERACTIONS, QUARANTINE
from schemas.to_expectations import suite

SIDES: dict[str, Side] = {"items": "item", "users": "user"}
Judged = tuple[DataFrame, dict[str, gate.Tally], dict[str, list[gate.Reason]]]


def fingerprint(config: Config, data: str) -> str:
    """Digest of the configured source files: names and contents."""
    files = {file for label, source in labelled_sources(config).items() for file in source_files(data, label, source)}
    return storage.fingerprint(data_address(data), sorted(files))


def run(context: Context) -> Draft:
    """Read and judge every row, count, let the gate decide, write."""
    config, data = context.config, context.data or ""
    spark = spark_session(config.spark)
    clean.check_sources(spark, config)
    sources = labelled_sources(config)
    logs = [label for label in sources if label.startswith("interactions")]
    with ExitStack() as kept:

        def judge(label: str) -> Judged:
            with readable(label):
                rows = (
                    clean.marked_log(spark, data, config)
                    if label == "interactions"
                    else clean.marked_content(spark, data, label, config)
                )
                rows = kept.enter_context(persisted(rows))
                return rows, *gate.tally(rows, logs if label == "interactions" else [label])

        labels = ["interactions", *(label for label in sources if label not in logs)]
        judged = dict(zip(labels, together(*(partial(judge, label) for label in labels)), strict=True))
        marked = {label: rows for label, (rows, _, _) in judged.items()}
        tallies = {source: count for _, counts, _ in judged.values() for source, count in counts.items()}
        reasons = {source: found for _, _, broken in judged.values() for source, found in broken.items()}
        total = sum((tallies[label] for label in logs), gate.Tally())
        for name, count in {**tallies, "all logs": total}.items():
            context.say(count.line(name))
            count.check(name)
        if not total.rows_in:
            raise SourceError(
                f"the log must have rows, {', '.join(f'source.{label}' for label in logs)} has none; "
                "correct its path, or --data, or give a log with events"
            )
        gate.check_shares(tallies, reasons, config.quality.max_quarantine_share)

        log = clean.interactions(marked["interactions"])
        contents = {
            name: kept.enter_context(persisted(clean.content(spark, side, marked, config)))
            for name, side in SIDES.items()
        }
        tables = {name: content_table(side, config.content_kinds(side)) for name, side in SIDES.items()}
        declared = [name for name in SIDES if any(label.startswith(name) for label in marked)]
        here, files = context.staging, config.storage.parquet_files
        by_user = ["user_id", "event_time", *(n for n in INTERACTIONS.names if n not in ("user_id", "event_time"))]

        def check() -> dict[str, Any]:
            suites = {"interactions": suite(INTERACTIONS, **clean.log_rules(config))}
            suites |= {name: suite(tables[name]) for name in declared}
            return {name: gate.expect({"interactions": log, **contents}[name], rules) for name, rules in suites.items()}

        def write() -> dict[str, Any]:
            wanted = {
                "interactions": (log, INTERACTIONS, ["user_id"], by_user),
                **{name: (contents[name], table, table.key[:1], table.key) for name, table in tables.items()},
                "quarantine": (clean.quarantine(*marked.values()), QUARANTINE, QUARANTINE.names, QUARANTINE.names),
            }
            return {
                name: write_table(rows, here, name, table, files=files, by=by, order=order)
                for name, (rows, table, by, order) in wanted.items()
            }

        def look_up() -> dict[str, Any]:
            return {name: clean.count_without_content(log, contents[name], side) for name, side in SIDES.items()}

        # What is written while the expectations are checked is thrown away if one fails.
        expectations, entries, without = together(check, write, look_up)
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
    entries["report"] = storage.write_json(here, "report.json", report)
    return Draft(entries, facts)


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """`frame`, kept by Spark until the block ends."""
    frame.persist()
    try:
        yield frame
    finally:
        frame.unpersist()


JOB = Job(
    name="check_quality",
    dataset="clean",
    parents=(),
    sections=("source", "quality", "storage"),
    run=run,
    reads_data=True,
    fingerprint=fingerprint,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
