"""What serving held on a day beside the examples of that day: an altered feature of either side is found."""

from pyspark.sql import functions as F

from pipelines.examples.audit.report import Skipped
from pipelines.examples.audit.served import check_served


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
