"""Reference factors of users and items, by Spark MLlib's implicit ALS on the positives of the training period."""

import argparse
import posixpath
import sys

from jobs.launch import Context, Draft, Job, main, say
from pipelines.config import Config
from pipelines.errors import ConfigError
from pipelines.examples.tables import clean_tables
from pipelines.factors.als import fit_factors, fitted_until, training_positives
from pipelines.spark import persisted, scratch, spark_session, write_table
from pipelines.storage import Workspace
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


def _arguments(parser: argparse.ArgumentParser) -> None:
    meaning = "do nothing where the configuration has no `factors`: for schedules that serve any configuration"
    parser.add_argument("--if-configured", action="store_true", help=meaning)


def _needless(arguments: argparse.Namespace, config: Config, workspace: Workspace) -> bool:
    needless = bool(arguments.if_configured) and config.factors is None
    if needless:
        say("compute_factors: the configuration has no `factors`, there is nothing to do")
    return needless


JOB = Job(
    name="compute_factors",
    dataset="factors",
    parents=("clean", "preferences"),
    sections=("source", "labels", "split", "factors", "storage"),
    run=run,
    arguments=_arguments,
    instead=_needless,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
