"""Preference statistics of every user, item and category as of the log's latest moment, for serving.

Also fits what the later stages hold fixed: the cuts between train, validation and test, and the priors.
"""

import sys

from jobs.launch import Context, Draft, Job, main
from pipelines.content.as_of import attach_content
from pipelines.examples.fit import fit
from pipelines.examples.labels import positive_condition
from pipelines.examples.serving import serving_items, serving_users
from pipelines.examples.tables import Tables
from pipelines.features import feature_set
from pipelines.preferences.join import category_events
from pipelines.preferences.snapshot import serving_moment, snapshot, snapshot_contract
from pipelines.preferences.tallies import check_weights
from pipelines.spark import read_table, spark_session, write_table
from pipelines.storage import write_json
from schemas.content import content_table
from schemas.interactions import INTERACTIONS
from schemas.preferences import serving_table


def run(context: Context) -> Draft:
    """Publish a table for each entity, the rows that a scorer takes, and `fitted`."""
    config, clean = context.config, context.parents["clean"]
    options = config.preferences
    spark = spark_session(config.spark)
    interactions = read_table(spark, clean, "interactions", INTERACTIONS)
    items = read_table(spark, clean, "items", content_table("item", config.content_kinds("item")))
    users = read_table(spark, clean, "users", content_table("user", config.content_kinds("user")))
    check_weights(interactions, options)
    fitted = fit(interactions, config)
    moment = serving_moment(interactions, options)
    content = {name: name for name in options.recent if name != "item_id"}
    positives = interactions.where(positive_condition(config))
    positives = attach_content(positives, items, id="item_id", time="event_time", columns=content)
    with_bags = ("user",) if options.recent else ()
    tables = {}
    for entity in dict.fromkeys((*options.entities, *with_bags)):
        name, category = entity.replace(".", "_"), entity.removeprefix("item.")
        key = f"{entity}_id" if category == entity else name
        events = interactions if category == entity else category_events(interactions, items, category)
        frame = snapshot(
            events, positives, key=key, entity=entity, moment=moment, options=options, priors=fitted.priors
        )
        contract = snapshot_contract(entity, options)
        tables[name] = write_table(
            frame,
            context.staging,
            name,
            contract,
            files=config.storage.parquet_files,
            by=["entity_id"],
            order=["entity_id"],
        )
    everything = Tables(interactions, items, users)
    for make, features in ((serving_users, feature_set(config).user), (serving_items, feature_set(config).item)):
        contract = serving_table(features)
        tables[contract.name] = write_table(
            make(everything, config, fitted, moment),
            context.staging,
            contract.name,
            contract,
            files=config.storage.parquet_files,
            by=contract.key,
            order=contract.key,
        )
    tables["fitted"] = write_json(context.staging, "fitted.json", fitted.model_dump(mode="json"))
    return Draft(
        tables,
        facts={"accuracy": options.accuracy, "priors": fitted.priors},
        as_of={
            "snapshot_time": moment.as_of,
            "served_from": moment.served_from,
            **fitted.cuts.model_dump(include={"validation_start", "test_start", "end"}),
        },
    )


JOB = Job(
    name="compute_preferences",
    dataset="preferences",
    parents=("clean",),
    sections=("source", "quality", "labels", "split", "preferences", "storage"),
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
