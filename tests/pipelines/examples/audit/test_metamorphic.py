"""Another future changes nothing before the cut; a build into which the future flows is caught, whatever its path.

The builds here are miniatures, one join each, so that each shows one leak alone.
"""

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.examples.audit import metamorphic
from pipelines.examples.audit.future import availability_quantiles, choose_cut, other_future
from pipelines.examples.audit.metamorphic import Published, check_future, check_order
from pipelines.examples.tables import Tables
from schemas.interactions import INTERACTIONS

HOUR = 3_600_000_000


def example_frame(log: DataFrame) -> DataFrame:
    """An honest example of each impression: the item's clicks known at its time."""
    shown = log.where(F.col("action") == "impression").alias("shown")
    known = (F.col("past.event_time") < F.col("shown.event_time")) & (
        F.col("past.available_time") <= F.col("shown.event_time")
    )
    mine = (F.col("past.item_id") == F.col("shown.item_id")) & (F.col("past.action") == "click")
    key = ["shown.user_id", "shown.item_id", "shown.event_time", "shown.available_time"]
    return (
        shown.join(log.alias("past"), mine & known, how="left")
        .groupBy(*key)
        .agg(F.count("past.item_id").alias("clicks"))
        .select(
            F.concat_ws("/", "user_id", "item_id", "event_time").alias("example_id"),
            "user_id",
            "item_id",
            "event_time",
            "clicks",
            F.lit(0.0).alias("label"),
            F.lit(1.0).alias("weight"),
            F.greatest(F.col("event_time") + 2 * HOUR, "available_time").alias("label_time"),
            F.lit(False).alias("cold_user"),
            F.lit(False).alias("cold_item"),
        )
    )


def candidate_frame(tables) -> DataFrame:
    """Every item version at a clock of each day, honest but for having no statistics."""
    days = tables.interactions.select(F.explode(F.sequence(F.lit(20_001), F.lit(20_011))).alias("day")).distinct()
    clock = days.select((F.col("day") * 24 * HOUR).alias("as_of")).withColumn("known_by", F.col("as_of") + HOUR)
    versions = tables.items.select(
        "item_id", F.col("valid_from").alias("in_effect_from"), F.lit(2**62).alias("in_effect_to"), "category"
    )
    return (
        versions.crossJoin(clock).where(F.col("in_effect_from") <= F.col("as_of")).withColumn("cold_item", F.lit(True))
    )


def exists_frame(tables) -> DataFrame:
    return tables.interactions.groupBy("item_id").agg(F.min("available_time").alias("exists_from"))


def honest(tables, config, fitted) -> Published:
    return Published(example_frame(tables.interactions), candidate_frame(tables), exists_frame(tables))


def _with_examples(change):
    def build(tables, config, fitted) -> Published:
        built = honest(tables, config, fitted)
        return Published(change(built.examples, tables), built.candidates, built.exists)

    return build


def count_of_the_whole_log(examples, tables):
    return examples.join(tables.interactions.groupBy("item_id").agg(F.count("*").alias("total")), "item_id", how="left")


def events_by_when_they_happened(examples, tables):
    past = tables.interactions.select(F.col("item_id"), F.col("event_time").alias("happened"))
    joined = examples.join(past, "item_id", how="left")
    return joined.groupBy(*examples.columns).agg(F.count_if(F.col("happened") < F.col("event_time")).alias("n"))


def latest_content(examples, tables):
    return examples.join(
        tables.items.groupBy("item_id").agg(F.max_by("category", "valid_from").alias("c")), "item_id", how="left"
    )


def negatives_from_the_future_catalogue(examples, tables):
    drawn = tables.items.agg(F.max("item_id").alias("drawn"))
    return examples.crossJoin(drawn).withColumn("item_id", F.col("drawn")).drop("drawn")


def labels_that_never_close(examples, tables):
    late = tables.interactions.where(F.col("action") == "click").select(
        "user_id", "item_id", F.col("event_time").alias("clicked")
    )
    joined = examples.join(late, ["user_id", "item_id"], how="left")
    after = (F.col("clicked") >= F.col("event_time")) & (F.col("clicked") <= F.col("event_time") + HOUR // 2)
    clicked = joined.groupBy(*examples.columns).agg(F.count_if(after).alias("n"))
    return clicked.withColumn("label", (F.col("n") > 0).cast("double")).drop("n")


def cold_by_the_whole_log(examples, tables):
    few = tables.interactions.groupBy("item_id").agg((F.count("*") % 2 == 0).alias("few"))
    return examples.join(few, "item_id", how="left").withColumn("cold_item", F.col("few")).drop("few")


def so_many_of_all(examples, tables):
    return examples.orderBy(F.xxhash64("example_id")).limit(60)


def order_of_rows_matters(examples, tables):
    return examples.withColumn("place", F.monotonically_increasing_id())


def priors_fitted_again_on_everything(examples, tables):
    return examples.crossJoin(tables.interactions.agg(F.avg("weight").alias("prior")))


LEAKS = [
    count_of_the_whole_log,
    events_by_when_they_happened,
    latest_content,
    negatives_from_the_future_catalogue,
    labels_that_never_close,
    cold_by_the_whole_log,
    so_many_of_all,
    order_of_rows_matters,
    priors_fitted_again_on_everything,
]


def cut_of(shop) -> int:
    return choose_cut(shop.tables, candidate_frame(shop.tables), shop.config)


@pytest.fixture(scope="module")
def other(shop, spark, tmp_path_factory) -> Tables:
    """The tables under another future, made once and in another order than before."""
    made, folder = other_future(shop.tables, cut_of(shop), shop.config), tmp_path_factory.mktemp("other")
    for name in ("interactions", "items", "users"):
        getattr(made, name).write.parquet(str(folder / name))
    return Tables(*(spark.read.parquet(str(folder / name)) for name in ("interactions", "items", "users")))


@pytest.fixture
def failures(shop, other, monkeypatch):
    """A build -> name and detail of each check that it fails."""
    monkeypatch.setattr(metamorphic, "other_future", lambda *_: other)

    def check(build) -> dict[str, str]:
        built, cut = build(shop.tables, shop.config, shop.fitted), cut_of(shop)
        checks = check_future(built, shop.tables, shop.config, shop.fitted, build, cut)
        return {check.name: check.detail for check in checks if not check.passed}

    return check


def test_an_honest_miniature_passes(failures) -> None:
    assert failures(honest) == {}


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
def test_the_future_in_examples_is_caught(leak, failures) -> None:
    broken = failures(_with_examples(leak))
    assert broken
    assert all("example" in name and "example" in detail for name, detail in broken.items())


def test_the_future_in_candidates_is_caught(failures) -> None:
    def build(tables, config, fitted) -> Published:
        built = honest(tables, config, fitted)
        total = tables.interactions.groupBy("item_id").agg(F.count("*").alias("total"))
        return Published(built.examples, built.candidates.join(total, "item_id", how="left"), built.exists)

    broken = failures(build)
    assert list(broken) == ["another future: candidate features"]
    assert ", total: published" in broken["another future: candidate features"]


def test_another_future_keeps_the_past_and_changes_the_rest(shop, other) -> None:
    cut, key = cut_of(shop), list(INTERACTIONS.names)
    logged, changed = (
        {tuple(row) for row in frame.select(*key).collect()} for frame in (shop.tables.interactions, other.interactions)
    )
    happened, available = key.index("event_time"), key.index("available_time")
    assert {e for e in logged if e[available] <= cut} == {e for e in changed if e[available] <= cut}
    dropped, added = logged - changed, changed - logged
    assert 0 < len(dropped) < sum(e[available] > cut for e in logged)
    assert any(e[happened] < cut for e in added) and all(e[available] >= e[happened] for e in added)
    named = [key.index(name) for name in INTERACTIONS.key]
    known = {tuple(e[i] for i in named): e for e in logged}
    assert len({tuple(e[i] for i in named) for e in changed}) == len(changed)
    altered = [(e, known[name]) for e in added if (name := tuple(e[i] for i in named)) in known]
    assert altered and all(before[available] > cut < after[available] for after, before in altered)
    assert all(after[key.index("weight")] != before[key.index("weight")] for after, before in altered)


def order_matters_after_the_cut(cut):
    """Rows that no other future is compared on depend on where they happen to lie."""

    def leaky(examples, tables):
        return examples.withColumn("place", F.when(F.col("event_time") > cut, F.monotonically_increasing_id()))

    return leaky


def test_only_another_row_order_sees_what_depends_on_it_after_the_cut(shop, failures) -> None:
    leaky = _with_examples(order_matters_after_the_cut(cut_of(shop)))
    assert failures(leaky) == {}

    def under_another_order(build) -> list[str]:
        built = build(shop.tables, shop.config, shop.fitted)
        checks = check_order(built, shop.tables, shop.config, shop.fitted, build)
        assert {check.kind for check in checks} == {"thorough"} and all(check.checked for check in checks)
        return [check.name for check in checks if not check.passed]

    assert under_another_order(honest) == []
    assert under_another_order(leaky) == ["another row order: example columns"]


def test_a_quantile_of_availability_is_a_whole_hour_by_which_that_share_was_available(shop) -> None:
    times = sorted(row["available_time"] for row in shop.tables.interactions.collect())
    for share, cut in zip(
        (0.2, 0.5, 1.0), availability_quantiles(shop.tables.interactions, (0.2, 0.5, 1.0)), strict=True
    ):
        assert cut % HOUR == 0
        assert sum(time <= cut for time in times) >= share * len(times) > sum(time <= cut - HOUR for time in times)
