"""Prove that no future leaked into the examples, or stop the run (exit code 3) and publish nothing.

Every row's clocks are checked, a seeded sample is recomputed by a plain method, each feature is held beside the label,
raw rows are read again, and the examples are built again with another future after a cut: nothing before it may differ
by a byte. docs/time.md says what that proves.
"""

import argparse
import datetime as dt
import posixpath
import sys
from dataclasses import replace
from functools import partial

from jobs.launch import Context, Draft, Job, main
from pipelines.config import Config
from pipelines.examples.audit.audit import audit
from pipelines.examples.audit.image_encoder import check_image_encoder
from pipelines.examples.audit.metamorphic import Published
from pipelines.examples.audit.raw import RawData
from pipelines.examples.build import build
from pipelines.examples.tables import clean_tables
from pipelines.features import feature_set
from pipelines.quality.sources import published_sources
from pipelines.spark import read_table, spark_session, spool
from pipelines.storage import write_json
from schemas.examples import EXISTS, candidate_table, example_table
from schemas.fitted import Fitted
from schemas.interactions import QUARANTINE
from schemas.manifest import Manifest
from schemas.records import CATALOGUE


def fingerprint(config: Config, data: str) -> str:
    """That there is raw data. Its content is that of the clean tables, or it is left out."""
    return "raw data"


def run(context: Context) -> Draft:
    """Audit the published examples against the clean tables."""
    config = context.config
    spark = spark_session(config.spark)
    clean, examples = context.parents["clean"], context.parents["examples"]
    features = feature_set(config)
    tables = clean_tables(spark, clean, config)
    catalogue = None
    if CATALOGUE in examples.manifest.tables:
        catalogue = read_table(spark, examples, CATALOGUE, candidate_table(features.item))
    built = Published(
        examples=read_table(spark, examples, "examples", example_table(features)),
        candidates=read_table(spark, examples, "candidates", candidate_table(features.item)),
        exists=read_table(spark, examples, "exists", EXISTS),
        catalogue=catalogue,
    )
    fitted = Fitted.model_validate(context.parents["preferences"].read_json("fitted"))
    raw = None
    if context.data is not None:
        raw = RawData(context.data, read_table(spark, clean, "quarantine", QUARANTINE), read_at(clean.manifest))
    with spool(spark, posixpath.join(context.staging, "spool")) as keep:
        report = audit(built, tables, config, fitted, partial(build, keep=keep), raw)
    if vectors := context.parents.get("content_vectors"):
        report = replace(report, checks=(*report.checks, *check_image_encoder(vectors.manifest, fitted)))
    for skipped in report.skipped:
        context.say(f"note: not checked: {skipped.name}; {skipped.why}")
    report.require()
    context.say(f"  {len(report.checks)} checks passed")
    result = report.to_json()
    return Draft(tables={"audit": write_json(context.staging, "audit.json", result)}, facts={"audit": result})


def arguments(parser: argparse.ArgumentParser) -> None:
    """`--thorough` is short for a value of the configuration."""
    parser.add_argument(
        "--thorough",
        dest="set",
        action="append_const",
        const="audit.thorough=true",
        help="as before a release: several cuts, every row built again from rows in another order, larger samples",
    )


def read_at(clean: Manifest) -> dt.datetime:
    """When the raw files of a clean dataset were read, to the second in which that began."""
    return dt.datetime.fromisoformat(clean.made_at) - dt.timedelta(seconds=clean.seconds - 1)


JOB = Job(
    name="audit_leakage",
    dataset="audit",
    parents=("clean", "examples", "preferences"),
    sections=("audit", "labels", "split", "preferences", "evaluation", "catalogue", "source", "quality"),
    run=run,
    needs=published_sources,
    reads_data=True,
    data_optional=True,
    fingerprint=fingerprint,
    arguments=arguments,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
