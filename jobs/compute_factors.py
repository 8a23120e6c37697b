"""Reference factors of users and items, by Spark MLlib's implicit ALS on the positives of the training period."""

import posixpath
import sys

from jobs.launch import Context, Draft, Job, main
from pipelines.errors import ConfigError
from pipelines.examples.tables import clean_tables
from pipelines.factors.als import fit_factors, fitted_until, training_positives
from pipelines.spark import persisted, scratch, spark_session, write_table
from schemas.factors import factor_table
from schemas.fitted import Fitted


def run(context: Context) -> Draft:
    """Fit, and publish a table a side."""
    config, options = context.config, context.config.factors
    if options is None:
        raise ConfigError("`factors` must be set for compute_factors, it is absent; add `factors: {rank: 64}`")
    spark = spark_session(config.spark)
    fitted = Fitted.model_validate(context.parents["preferences"].read_json("fitted"))
    until = fitted_until(options, fitted.cuts)
    positives = training_positives(clean_tables(spark, context.parents["clean"], config).interactions, config, until)
    with persisted(positives), scratch(spark, posixpath.join(context.staging, "checkpoints")) as folder:
        # A plan of so many rounds is cut into pieces: as one it is deeper than a Java stack.
        spark.sparkContext.setCheckpointDir(folder)
        entries = {}
        for side, frame in fit_factors(positives, options, config.seed).items():
            contract, files = factor_table(side), config.storage.parquet_files
            entries[contract.name] = write_table(
                frame, context.staging, contract.name, contract, files=files, by=contract.key, order=contract.key
            )
        pairs = positives.count()
    facts = {"positives": pairs, "rank": options.rank}
    return Draft(entries, facts, {"fitted_until": until})


JOB = Job(
    name="compute_factors",
    dataset="factors",
    parents=("clean", "preferences"),
    sections=("source", "labels", "split", "factors", "storage"),
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
