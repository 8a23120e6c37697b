"""Labels, splits and the point-in-time join: the clean log and the fitted state in, examples and candidates out."""

import posixpath
import sys

from jobs.launch import Context, Draft, Job, main
from pipelines.examples.build import Tables, build
from pipelines.examples.candidates import CLOCK
from pipelines.examples.counts import count_examples
from pipelines.features import feature_set
from pipelines.spark import read_table, spark_session, write_table
from pipelines.storage import write_json
from schemas.content import content_table
from schemas.examples import EXISTS, candidate_table, example_table
from schemas.fitted import Fitted
from schemas.interactions import INTERACTIONS


def run(context: Context) -> Draft:
    """Join, write, count."""
    config, clean = context.config, context.parents["clean"]
    spark = spark_session(config.spark)
    fitted = Fitted.model_validate(context.parents["preferences"].read_json("fitted"))
    built = build(
        Tables(
            read_table(spark, clean, "interactions", INTERACTIONS),
            read_table(spark, clean, "items", content_table("item", config.content_kinds("item"))),
            read_table(spark, clean, "users", content_table("user", config.content_kinds("user"))),
        ),
        config,
        fitted,
    )
    features, files = feature_set(config), config.storage.parquet_files
    tables = {
        name: write_table(frame, context.staging, name, contract, files=files, by=by, order=contract.key)
        for name, frame, contract, by in (
            ("examples", built.examples, example_table(features), ["example_id"]),
            ("candidates", built.candidates, candidate_table(features.item), CLOCK),  # read a clock at a time
            ("exists", built.exists, EXISTS, ["item_id"]),
        )
    }
    tables["fitted"] = write_json(context.staging, "fitted.json", fitted.model_dump(mode="json"))
    facts = count_examples(spark.read.parquet(posixpath.join(context.staging, "examples")), built.counts)
    for note in facts["notes"]:
        context.say(f"note: {note}")
    cuts = fitted.cuts
    as_of = {"validation_start": cuts.validation_start, "test_start": cuts.test_start, "end": cuts.end}
    return Draft(tables, facts, as_of)


JOB = Job(
    name="build_examples",
    dataset="examples",
    parents=("clean", "preferences"),
    sections=("source", "quality", "labels", "split", "preferences", "evaluation", "storage"),
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
