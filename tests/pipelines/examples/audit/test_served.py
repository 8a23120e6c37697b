"""What serving held on a day beside the examples of that day: an altered feature of either side is found."""

from pyspark.sql import functions as F

from pipelines.examples.audit.report import Skipped
from pipelines.examples.audit.served import as_it_stood, check_served
from pipelines.examples.tables import Tables
from pipelines.preferences.clock import Moment

MINUTE = 60_000_000


def test_features_that_differ_from_what_serving_held_are_named_with_both_values(world, make_config) -> None:
    altered = world.built.examples.withColumns(
        {
            "user_click_count_lifetime": F.coalesce("user_click_count_lifetime", F.lit(0.0)) + 1,
            "item_category": F.lit("another"),
        }
    )
    user, item = check_served(altered, world.tables, world.config, world.fitted, 20)
    assert user.failed == user.checked > 0 and 0 < item.failed == item.checked
    assert "user_click_count_lifetime: published" in user.detail
    assert "item_category: published 'another', should be" in item.detail
    of_whoever_asks = make_config(preferences={"accuracy": "exact"})
    (skipped,) = check_served(altered, world.tables, of_whoever_asks, world.fitted, 20)
    assert isinstance(skipped, Skipped) and skipped.kind == "served"


def test_content_that_changed_once_the_days_job_had_begun_is_in_no_snapshot_and_its_examples_are_left_out(
    world,
) -> None:
    days = world.built.examples.where("split != 'train'").select("as_of").distinct()
    # After the landing delay of an hour, before the snapshot is served.
    changed = world.tables.items.dropDuplicates(["item_id"]).crossJoin(days).withColumns(
        {"valid_from": F.col("as_of") + 90 * MINUTE, "category": F.lit("new")}
    ).drop("as_of")  # fmt: skip
    tables = Tables(world.tables.interactions, world.tables.items.unionByName(changed), world.tables.users)
    as_of = days.agg(F.min("as_of")).first()[0]
    then = as_it_stood(tables, Moment(as_of, as_of + 60 * MINUTE, as_of + 120 * MINUTE))
    assert then.items.where("category = 'new'").count() == 0
    _, item = check_served(world.built.examples, tables, world.config, world.fitted, 20)
    assert isinstance(item, Skipped)
