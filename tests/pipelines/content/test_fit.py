import math

import numpy as np
import pytest
from pyspark.sql import functions as F

from pipelines.config import ContentOptions, parse_config
from pipelines.content.encoder import normalise
from pipelines.content.fit import fit_encoder
from pipelines.content.layout import embedding_tables, model_inputs
from pipelines.content.words import bucket
from pipelines.errors import ConfigError, InputError
from pipelines.examples.audit.encoder import check_encoder
from schemas.examples import FeatureSet, SideFeatures
from schemas.fitted import EncoderState, Normaliser
from schemas.to_spark import spark_type

FEATURES = FeatureSet(
    SideFeatures(
        "user",
        {"user_country": "category"},
        {"user": ("user_click_count_7d",)},
        ("user_recent_tags", "user_recent_item_id"),
    ),
    SideFeatures(
        "item",
        {
            "item_tags": "categories",
            "item_text": "text",
            "item_price": "number",
            "item_age": "number",
            "item_image": "vector",
        },
    ),
)
OPTIONS = ContentOptions(min_count=2, max_vocabulary=2, max_values=3, text_buckets=10, max_words=5)
NOTHING = None
ROWS = [
    # country, clicks, recent tags, recent ids, tags, text, price, age, image
    ("nl", 0.0, ["red"], ["i1"], ["red", "red"], "a", 1.0, 20.0, [0.0, 1.0]),
    ("nl", 2.0, ["old"], ["i1"], ["red", "old"], "b", 300.0, 30.0, NOTHING),
    ("de", float("nan"), NOTHING, NOTHING, ["big"], NOTHING, 2.0, 40.0, [1.0, 1.0]),
    ("be", NOTHING, NOTHING, ["i2", "i2"], NOTHING, "c", float("inf"), NOTHING, [2.0, 1.0]),
]


IDS = [(f"u{index}", f"i{index}") for index in range(4)]


def frame(spark, rows, partitions=2, features=FEATURES):
    """Rows of the features, in order, then user and item id."""
    schema = ", ".join(f"{c.name} {spark_type(c.type).simpleString()}" for c in features.columns)
    return spark.createDataFrame(rows, f"{schema}, user_id string, item_id string").repartition(partitions)


@pytest.fixture(scope="module")
def state(spark):
    return fit_encoder(frame(spark, [(*row, *ids) for row, ids in zip(ROWS, IDS, strict=True)]), FEATURES, OPTIONS)


def test_vocabularies_count_rows_order_by_count_then_value_and_are_shared(state) -> None:
    # red: rows 0 and 1, old: row 1 (twice, in two columns), big: row 2. i2: one row.
    assert state.vocabularies == {"user_country": ("nl",), "tags": ("red",), "item_id": ("i1",)}
    by_name = {spec.name: spec for spec in state.inputs}
    assert list(by_name) == [
        "user_country", "user_statistics", "user_recent_tags", "user_recent_item_id",
        "item_tags", "item_text", "item_numbers", "item_image",
    ]  # fmt: skip
    assert by_name["item_tags"].table == by_name["user_recent_tags"].table == "tags"
    assert by_name["item_tags"].table_size == 3 and by_name["item_tags"].length == 3
    assert by_name["user_recent_item_id"].part == "preference" and by_name["item_tags"].part == "content"
    assert (by_name["item_text"].table_size, by_name["item_text"].length) == (11, 5)
    assert by_name["item_numbers"].columns == ("item_price", "item_age") and by_name["item_image"].length == 2


def test_statistics_and_wide_numbers_go_by_log1p_and_nothing_infinite_counts(state) -> None:
    got = state.normalisers
    assert got["item_age"].transform == "none" and got["item_price"].transform == "log1p"
    assert got["item_age"].mean == pytest.approx(30, abs=1e-3)
    assert got["item_age"].std == pytest.approx(math.sqrt(200 / 3), abs=1e-3)
    logs = [math.log1p(value) for value in (1, 300, 2)]
    assert got["item_price"].mean == pytest.approx(sum(logs) / 3, abs=1e-3)
    assert got["user_click_count_7d"].mean == pytest.approx(math.log(3) / 2, abs=1e-4)


def test_constant_and_unknown_columns_are_guarded(spark) -> None:
    rows = [("nl", NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, 7.0, NOTHING, [1.0], "u", "i")] * 3
    got = fit_encoder(frame(spark, rows), FEATURES, OPTIONS)
    assert got.normalisers["item_price"] == Normaliser(transform="none", mean=7.0, std=1.0)
    assert got.normalisers["item_age"] == Normaliser(transform="none", mean=0.0, std=1.0)
    assert got.vocabularies["tags"] == ()


def test_order_and_partitions_do_not_matter(spark, state) -> None:
    assert fit_encoder(frame(spark, [(*ROWS[i], *IDS[i]) for i in (2, 0, 3, 1)], 3), FEATURES, OPTIONS) == state


def test_quantiles_and_document_frequencies_are_fitted_and_no_order_changes_them(spark, state) -> None:
    options = OPTIONS.model_copy(update={"normaliser": "quantile", "weighting": "idf", "ngrams": 2})
    rows = [(*row, *ids) for row, ids in zip(ROWS, IDS, strict=True)]
    got = fit_encoder(frame(spark, rows), FEATURES, options)
    assert fit_encoder(frame(spark, rows[::-1], 3), FEATURES, options) == got

    def weight(held: int) -> float:
        return round(math.log(5 / (1 + held)) + 1, 6)

    assert got.idf["tags"] == (1.0, weight(2)) and got.idf["user_country"] == (1.0, weight(2))
    held = [bucket(word, 10) for word in "abc"]  # one word a row
    assert got.idf["text"] == tuple(weight(held.count(number)) for number in range(1, 11))
    # Three ages, 20, 30 and 40: ranks 0 to 2, each a third of the knots but the last.
    knots = got.normalisers["item_age"].knots
    assert len(knots) == 33 and list(knots) == sorted(knots)
    assert np.unique(knots) == pytest.approx([20, 30, 40], abs=1e-3)
    assert got.normalisers["item_age"].mean == state.normalisers["item_age"].mean
    ages = normalise(np.array([20.0, 30.0, 40.0, 1e12, -5, math.nan]), got.normalisers["item_age"])
    assert ages[:2].tolist() == sorted(ages[:2]) and ages[2] == ages[3] and ages[4] == ages[0] and math.isnan(ages[5])
    assert set(state.model_dump()) == set(got.model_dump()) - {"idf", "ngrams"}
    assert "knots" not in state.model_dump_json()
    assert EncoderState.model_validate_json(got.model_dump_json()) == got


def test_the_audit_counts_words_as_they_were_fitted_and_sees_one_that_is_not(spark, tmp_path) -> None:
    options = OPTIONS.model_copy(update={"weighting": "idf", "ngrams": 2})
    rows = frame(spark, [(*row, *ids) for row, ids in zip(ROWS, IDS, strict=True)])
    rows.withColumn("split", F.lit("train")).write.parquet(str(tmp_path / "rows"))
    paths, honest = spark.read.parquet(str(tmp_path / "rows")).inputFiles(), fit_encoder(rows, FEATURES, options)
    other = {**honest.idf, "text": honest.idf["text"][::-1]}
    found = [
        [check.name for check in check_encoder(spark, paths, state, FEATURES, options) if not check.passed]
        for state in (honest, honest.model_copy(update={"idf": other}))
    ]
    assert found == [[], ["weights of ids"]]


def test_a_raw_id_in_the_content_part_is_refused(spark) -> None:
    features = FeatureSet(SideFeatures("user"), SideFeatures("item", {"item_code": "category"}))
    with pytest.raises(ConfigError, match=r"`item_code` is the item's own id; remove"):
        fit_encoder(frame(spark, [("7", "u", "7"), (None, "u", "8")], 2, features), features, OPTIONS)


def test_vectors_have_one_length(spark) -> None:
    features = FeatureSet(SideFeatures("user"), SideFeatures("item", {"item_image": "vector"}))
    with pytest.raises(InputError, match="one length, got 1 to 2"):
        fit_encoder(frame(spark, [([1.0], "u", "i"), ([1.0, 2.0], "u", "j")], 2, features), features, OPTIONS)
    with pytest.raises(InputError, match="must have a vector"):
        fit_encoder(frame(spark, [(NOTHING, "u", "i")], 1, features), features, OPTIONS)


def test_colliding_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="user_age"):
        embedding_tables(
            FeatureSet(SideFeatures("user", {"user_age": "category"}), SideFeatures("item", {"item_user_age": "text"}))
        )
    features = FeatureSet(
        SideFeatures("user"), SideFeatures("item", {"item_numbers": "category", "item_price": "number"})
    )
    with pytest.raises(ConfigError, match="item_numbers"):
        model_inputs(features, {"numbers": 0}, {}, OPTIONS)


def test_a_configuration_that_takes_the_id_for_content_is_refused() -> None:
    source = {"items": [{"path": "items.csv", "id": "sku", "columns": {"code": {"kind": "category", "column": "sku"}}}]}
    labels = {"rule": "sampled", "positive_actions": ["click"]}
    with pytest.raises(ConfigError, match="item column 'code' is"):
        parse_config({"name": "a", "seed": 1, "source": source, "labels": labels})
