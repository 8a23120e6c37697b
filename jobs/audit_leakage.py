"""Prove that no future leaked into the examples, or stop the run (exit code 3) and publish nothing.

Every row's clocks are checked, a seeded sample is recomputed by a plain method, and the examples are built again with
another future after a cut: nothing before it may differ by a byte. docs/time.md says what that proves.
"""

import posixpath
import sys
from functools import partial

from jobs.launch import Context, Draft, Job, main
from pipelines.examples.audit.audit import audit
from pipelines.examples.audit.metamorphic import Published
from pipelines.examples.build import build
from pipelines.examples.tables import clean_tables
from pipelines.features import feature_set
from pipelines.spark import read_table, spark_session, spool
from pipelines.storage import write_json
from schemas.examples import EXISTS, candidate_table, example_table
from schemas.fitted import Fitted


def run(context: Context) -> Draft:
    """Audit the published examples against the clean tables."""
    config = context.config
    spark = spark_session(config.spark)
    clean, examples = context.parents["clean"], context.parents["examples"]
    features = feature_set(config)
    tables = clean_tables(spark, clean, config)
    built = Published(
        examples=read_table(spark, examples, "examples", example_table(features)),
        candidates=read_table(spark, examples, "candidates", candidate_table(features.item)),
        exists=read_table(spark, examples, "exists", EXISTS),
    )
    fitted = Fitted.model_validate(context.parents["preferences"].read_json("fitted"))
    with spool(spark, posixpath.join(context.staging, "spool")) as keep:
        report = audit(built, tables, config, fitted, rebuild=partial(build, keep=keep))
    report.require()
    context.say(f"  {len(report.checks)} checks passed")
    result = report.to_json()
    return Draft(tables={"audit": write_json(context.staging, "audit.json", result)}, facts={"audit": result})


JOB = Job(
    name="audit_leakage",
    dataset="audit",
    parents=("clean", "examples", "preferences"),
    sections=("audit", "labels", "split", "preferences", "evaluation", "source", "quality"),
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
