"""Labels, splits and the point-in-time join: the clean log and the fitted state in, examples and candidates out.

Great Expectations checks what the features look like; one that cannot be stops the run with exit code 3.
"""

import posixpath
import sys
from functools import partial

from jobs.launch import Context, Draft, Job, main
from pipelines.examples.build import build
from pipelines.examples.counts import count_examples
from pipelines.examples.tables import clean_tables
from pipelines.features import feature_set
from pipelines.preferences.clock import CLOCK
from pipelines.quality.data_docs import write_docs
from pipelines.quality.features import check_features
from pipelines.quality.profile import period_us, scan_examples
from pipelines.spark import spark_session, spool, together, write_table
from pipelines.storage import write_arrow, write_json
from schemas.examples import EXISTS, candidate_table, example_table
from schemas.fitted import Fitted
from schemas.profile import PROFILE
from schemas.records import CATALOGUE


def run(context: Context) -> Draft:
    """Join, write, look at what was written."""
    config, clean = context.config, context.parents["clean"]
    spark = spark_session(config.spark)
    fitted = Fitted.model_validate(context.parents["preferences"].read_json("fitted"))
    tables = clean_tables(spark, clean, config)
    features, files = feature_set(config), config.storage.parquet_files
    with spool(spark, posixpath.join(context.staging, "spool")) as keep:
        built = build(tables, config, fitted, keep)
        wanted = {
            "examples": (built.examples, example_table(features), ["example_id"]),
            "candidates": (built.candidates, candidate_table(features.item), CLOCK),  # read a clock at a time
            "exists": (built.exists, EXISTS, ["item_id"]),
        }
        if built.catalogue is not None:
            wanted[CATALOGUE] = (built.catalogue, candidate_table(features.item), CLOCK)
        written = together(
            *(
                partial(write_table, frame, context.staging, name, contract, files=files, by=by, order=contract.key)
                for name, (frame, contract, by) in wanted.items()
            )
        )
        entries = dict(zip(wanted, written, strict=True))
        paths = [posixpath.join(context.staging, shard.path) for shard in entries["examples"].shards]
        scan = scan_examples(spark, paths, features, period_us(config.preferences))
        facts = count_examples(scan, built.counts)
    checked = check_features(scan.profile, config)
    entries["profile"] = write_arrow(context.staging, "profile", scan.profile, PROFILE)
    entries["features"] = write_json(context.staging, "features.json", checked.report)
    entries["data_docs"] = write_docs(context.staging, {"features": checked.outcome})
    entries["fitted"] = write_json(context.staging, "fitted.json", fitted.model_dump(mode="json"))
    facts |= {"features": checked.facts, "notes": [*facts["notes"], *checked.notes]}
    for note in facts["notes"]:
        context.say(f"note: {note}")
    cuts = fitted.cuts
    as_of = {"validation_start": cuts.validation_start, "test_start": cuts.test_start, "end": cuts.end}
    return Draft(entries, facts, as_of)


JOB = Job(
    name="build_examples",
    dataset="examples",
    parents=("clean", "preferences"),
    sections=("source", "quality", "labels", "split", "preferences", "features", "evaluation", "catalogue", "storage"),
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
