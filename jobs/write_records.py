"""Audited examples to shuffled TFRecord shards, one table a split, and the encoder fitted on the training split.

The catalogue, where the examples come with one, is a table like a split.
"""

import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.launch import Context, Draft, Job, add_runner, main
from pipelines.content.fit import fit_encoder
from pipelines.errors import DuplicateError, LeakageError
from pipelines.examples.audit.encoder import check_encoder
from pipelines.examples.audit.report import AuditReport
from pipelines.features import feature_set
from pipelines.records.order import duplicate_error
from pipelines.records.shard_file import shard_name
from pipelines.records.shuffle_check import check_shuffle
from pipelines.records.spark_writer import place_catalogue, place_records, write_shards
from pipelines.spark import read_table, spark_session
from pipelines.storage import Dataset, write_json
from schemas.examples import SPLITS, candidate_table, example_table
from schemas.manifest import TableEntry
from schemas.records import CATALOGUE, catalogue_columns, record_columns


def run(context: Context) -> Draft:
    """Fit the encoder, write the shards, check the shuffle."""
    config, parent = context.config, context.parents["examples"]
    audited = check_audit(context.parents.get("audit"))
    if not audited:
        context.say("note: these examples were not audited; what is trained on them is marked so, and never promoted")
    options, features = config.records, feature_set(config)
    spark = spark_session(config.spark)
    examples = read_table(spark, parent, "examples", example_table(features))
    state = fit_encoder(examples.where(F.col("split") == "train"), features, config.content)
    fitted = check_encoder(spark, parent.table_paths("examples"), state, features, config.content)
    AuditReport(tuple(fitted)).require()
    catalogue = None
    if CATALOGUE in parent.manifest.tables:
        catalogue = read_table(spark, parent, CATALOGUE, candidate_table(features.item))
    splits = (*SPLITS, CATALOGUE) if catalogue is not None else SPLITS
    found = {row["split"]: (row["earliest"], row["latest"]) for row in _spans(examples, catalogue).collect()}
    places = [(split, number) for split in splits for number in range(options.num_shards)]
    names = [shard_name(split, number, options.compression) for split, number in places]
    spans = [found.get(split, (0, 0)) for split, _ in places]
    if options.writer == "spark" and config.beam.runner != "local":
        context.say(f"note: records.writer is spark, so the Beam runner {config.beam.runner} has nothing to do here")
    if options.writer == "beam":
        # Beam takes seconds to load, and Spark's workers, which load this module too, have no use for it.
        from pipelines.records import beam_examples

        written = beam_examples.write_shards(
            parent.table_paths("examples"),
            state,
            config.seed,
            options.num_shards,
            context.staging,
            names,
            spans,
            config.beam,
            parent.table_paths(CATALOGUE) if catalogue is not None else (),
        )
    else:
        placed = place_records(examples, state, config.seed, options.num_shards)
        if catalogue is not None:
            placed = placed.union(place_catalogue(catalogue, state, config.seed, options.num_shards))
        written = write_shards(placed, context.staging, names, spans)
    for (split, _), shard in zip(places, written, strict=True):
        if shard.duplicate and catalogue is not None and split == CATALOGUE:
            raise DuplicateError(
                f"an item must be in the catalogue once at a clock, {_repeated(catalogue)} is there several times; "
                "run `thaw build_examples` again"
            )
        if shard.duplicate:
            raise duplicate_error(shard.duplicate, _rows_of(examples, shard.duplicate))
    of_split = {s: [w for w, (split, _) in zip(written, places, strict=True) if split == s] for s in splits}
    facts = {
        split: check_shuffle(split, [shard.summary for shard in shards], options.max_serial_correlation)
        for split, shards in of_split.items()
    }
    columns = dict.fromkeys(SPLITS, record_columns(state.inputs)) | {CATALOGUE: catalogue_columns(state.inputs)}
    tables = {
        split: TableEntry(format="tfrecord", columns=columns[split], shards=tuple(w.shard for w in shards))
        for split, shards in of_split.items()
    }
    tables["encoder"] = write_json(context.staging, "encoder.json", state.model_dump(mode="json"))
    # Which audit it was, `parents` says: a second audit of the same examples makes no other records.
    return Draft(tables, {"splits": facts, "audit": {"passed": audited}}, parent.manifest.as_of)


def check_audit(audit: Dataset | None) -> bool:
    """Whether the examples passed; no audit is here only where the configuration allows it.

    Raises LeakageError where they did not pass. That the audit is of these examples, its lineage says.
    """
    if audit and not audit.manifest.facts.get("audit", {}).get("passed"):
        raise LeakageError(
            "examples must have passed the audit, these have not; see the dataset `audit` for why, and run "
            "`thaw audit_leakage` again once it is mended"
        )
    return audit is not None


def _spans(examples: DataFrame, catalogue: DataFrame | None) -> DataFrame:
    """The earliest and latest event_time of each split; of the catalogue, the clocks'."""
    times = examples.select("split", "event_time")
    if catalogue is not None:
        times = times.union(catalogue.select(F.lit(CATALOGUE), "known_by"))
    return times.groupBy("split").agg(F.min("event_time").alias("earliest"), F.max("event_time").alias("latest"))


def _rows_of(examples: DataFrame, example_id: str) -> list[str]:
    """What tells the rows of one example_id apart, for people."""
    names = ("user_id", "item_id", "event_time", "negative_index")
    rows = examples.where(F.col("example_id") == example_id).select(*names).sort(*names).limit(2).collect()
    return [", ".join(f"{name} {row[name]}" for name in names) for row in rows]


def _repeated(catalogue: DataFrame) -> str:
    """What names the first row of the catalogue that is not alone, for people."""
    names = ("item_id", "as_of", "known_by")
    row = catalogue.groupBy(*names).count().where("count > 1").sort(*names).limit(1).collect()[0]
    return ", ".join(f"{name} {row[name]}" for name in names)


JOB = Job(
    name="write_records",
    dataset="records",
    parents=("examples", "audit"),
    sections=("content", "records", "preferences", "source"),
    run=run,
    arguments=add_runner,
    optional=lambda config: ("audit",) if config.training.allow_unaudited else (),
)

if __name__ == "__main__":
    sys.exit(main(JOB))
