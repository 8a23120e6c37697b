"""Data Docs: pages that stand alone, and are the same to the byte for the same results."""

import re

import pandas as pd
import pytest

from pipelines.quality.data_docs import page, write_docs
from pipelines.quality.gate import expect, validate
from pipelines.storage import Dataset
from schemas.interactions import INTERACTIONS
from schemas.manifest import Manifest
from schemas.to_expectations import range_suite, suite
from schemas.to_spark import spark_schema

TIME = 1_700_000_000_000_000


def outcome(*values, name="features", high=1.0):
    frame = pd.DataFrame({"item_click_rate_7d": values, "user_age": values})
    return validate(frame, range_suite(name, dict.fromkeys(frame, (0.0, high))), "BASIC")[1]


def test_a_page_says_what_was_expected_and_what_was_seen() -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page(outcome(0.25, 0.75))))
    assert "Validation of features" in text
    assert "item_click_rate_7d" in text
    assert "minimum value must be greater than or equal to 0.0 . 0.25" in text
    assert "maximum value must be less than or equal to 1.0 . 0.75" in text
    assert "Successful Expectations 4" in text
    assert "Run Info" not in text and "Great Expectations Version" not in text
    assert "fa-times" in page(outcome(0.25, 1.5)).partition("<body>")[2]


def test_a_page_is_the_same_to_the_byte_at_any_time_and_needs_nothing_but_itself() -> None:
    found = page(outcome(0.25, 0.75))
    assert found == page(outcome(0.25, 0.75))
    assert not re.search(r"https?:|<script|<link|@import|url\(|href=|src=|\b20\d\d-\d\d-\d\d", found)


def test_the_contract_of_a_spark_table_is_rendered_from_its_booleans_and_values_cannot_become_markup(spark) -> None:
    rows = spark.createDataFrame([("u", "i", TIME, TIME, "<b>click</b>", 1.0)], spark_schema(INTERACTIONS)).persist()
    found = page(expect(rows, suite(INTERACTIONS, allowed={"action": ["<b>click</b>"]}, min_rows=1)))
    rows.unpersist()
    sections = re.findall(r"<h5[^>]*>\s*(.*?)\s*</h5>", found)
    assert sections == ["Overview", "Table-Level Expectations", *INTERACTIONS.names]
    assert "100% not null" in found and "unknown" not in found
    assert "&lt;b&gt;click" in found and "<b>click" not in found


def test_a_file_per_suite_becomes_one_table_of_the_dataset(tmp_path) -> None:
    entry = write_docs(str(tmp_path), {"items": outcome(0.5, name="items"), "users": outcome(0.5, name="users")})
    assert [shard.path for shard in entry.shards] == ["data_docs/items.html", "data_docs/users.html"]
    dataset = Dataset(str(tmp_path), Manifest(dataset="clean", tables={"data_docs": entry}, seed=1))
    dataset.verify()
    (tmp_path / "data_docs" / "users.html").write_text("changed")
    with pytest.raises(Exception, match=r"users\.html must have"):
        dataset.verify()
