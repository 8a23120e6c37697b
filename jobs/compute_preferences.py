"""Preference statistics of every user, item and category as of the log's latest moment, for serving.

Also fits what the later stages hold fixed: the cuts between train, validation and test, and the priors. With --from, it
makes the daily snapshots of a range instead, each from the one before it: one command backfills, and a day that is run
again replaces that day and whatever was made of it.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial

from pyspark.sql import DataFrame

from jobs import snapshots
from jobs.launch import Context, Draft, Job, main
from pipelines.config import Config
from pipelines.examples.fit import fit
from pipelines.examples.serving import entity_snapshot, serving_items, serving_users
from pipelines.examples.tables import clean_tables
from pipelines.features import feature_set
from pipelines.preferences.snapshot import serving_moment, snapshot_contracts
from pipelines.preferences.tallies import check_weights
from pipelines.spark import spark_session, together, write_table
from pipelines.storage import Workspace, write_json
from schemas.columns import Table
from schemas.manifest import TableEntry
from schemas.preferences import entity_prefix, serving_table


def run(context: Context) -> Draft:
    """Publish a table for each entity, the rows that a scorer takes, and `fitted`."""
    config, clean = context.config, context.parents["clean"]
    options = config.preferences
    spark = spark_session(config.spark)
    tables = clean_tables(spark, clean, config)
    check_weights(tables.interactions, options)
    fitted = fit(tables.interactions, config)
    moment = serving_moment(tables.interactions, options)
    features = feature_set(config)

    def write(name: str, make: Callable[[], DataFrame], contract: Table) -> TableEntry:
        key, files = contract.key[:1], config.storage.parquet_files
        return write_table(make(), context.staging, name, contract, files=files, by=key, order=key)

    work = {
        entity_prefix(entity): (partial(entity_snapshot, entity, tables, config, fitted, moment), contract)
        for entity, contract in snapshot_contracts(options).items()
    }
    for make, side in ((serving_users, features.user), (serving_items, features.item)):
        contract = serving_table(side)
        work[contract.name] = partial(make, tables, config, fitted, moment), contract
    written = together(*(partial(write, name, make, contract) for name, (make, contract) in work.items()))
    entries = dict(zip(work, written, strict=True))
    entries["fitted"] = write_json(context.staging, "fitted.json", fitted.model_dump(mode="json"))
    return Draft(
        entries,
        facts={"accuracy": options.accuracy, "priors": fitted.priors},
        as_of={
            "snapshot_time": moment.as_of,
            "served_from": moment.served_from,
            **fitted.cuts.model_dump(include={"validation_start", "test_start", "end"}),
        },
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """The range of days."""
    parser.add_argument(
        "--from",
        dest="first",
        metavar="DATE",
        help="make the daily snapshots from this boundary on (UTC date or time) instead of the latest one",
    )
    parser.add_argument("--to", dest="last", metavar="DATE", help="…to this one (default: the one of --from alone)")


def days(given: argparse.Namespace, config: Config, workspace: Workspace) -> bool:
    """Make the range of snapshots, where one is asked for."""
    if given.first is None and given.last is None:
        return False
    snapshots.make(JOB, config, workspace, given.first, given.last, force=given.force)
    return True


JOB = Job(
    name="compute_preferences",
    dataset="preferences",
    parents=("clean",),
    sections=("source", "quality", "labels", "split", "preferences", "storage"),
    run=run,
    arguments=arguments,
    instead=days,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
