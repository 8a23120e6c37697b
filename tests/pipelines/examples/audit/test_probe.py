"""AUC by hand, with ties and missing values; what is probed of each kind of feature; when it refuses."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.examples.audit.probe import LEAST, auc, probe, rate_elsewhere, separation
from pipelines.examples.audit.report import Check, Skipped
from schemas.examples import FeatureSet, SideFeatures

NAN = float("nan")
FEATURES = FeatureSet(
    SideFeatures("user", {"user_country": "category"}, {"user": ("user_click_count_7d",)}, ("user_recent_tags",)),
    SideFeatures("item", {"item_text": "text", "item_price": "number", "item_look": "vector"}),
)


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([1, 2, 3, 4], [1, 1, 0, 0], 0.0),
        ([1, 1, 1, 1], [0, 1, 0, 1], 0.5),
        ([1, 2, 2, 3], [0, 0, 1, 1], (1 + 0.5 + 1 + 1) / 4),
        ([5, 1, 3], [1, 0, 0], 1.0),
    ],
)
def test_auc_counts_ties_half(values, labels, expected) -> None:
    assert auc(np.array(values, float), np.array(labels, bool)) == expected


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30), st.randoms())
def test_auc_is_the_share_of_pairs_in_any_order_of_rows(rows, random) -> None:
    if len({label for _, label in rows}) < 2:
        return
    won = [(p > n) + (p == n) / 2 for p, a in rows if a for n, b in rows if not b]
    random.shuffle(rows)
    values, labels = np.array([v for v, _ in rows], float), np.array([label for _, label in rows])
    assert auc(values, labels) == pytest.approx(sum(won) / len(won))


def test_missing_is_a_value_of_its_own_at_the_end_that_tells_more() -> None:
    labels = np.array([True, True, False, False])
    assert separation(np.array([NAN, NAN, 1.0, 2.0]), labels) == 1.0
    assert separation(np.array([NAN, 2.0, 1.0, 1.0]), labels) == 1.0  # above all others
    assert separation(np.array([NAN, NAN, NAN, NAN]), labels) == 0.5
    assert separation(np.array([4.0, 3.0, 2.0, 1.0]), labels) == separation(np.array([1.0, 2.0, 3.0, 4.0]), labels) == 1


def test_a_category_is_scored_by_the_other_half_so_that_a_name_of_the_row_tells_nothing() -> None:
    labels = np.array([True, True, False, False] * 10)
    unique = pa.chunked_array([[f"row {n}" for n in range(40)]])
    assert separation(rate_elsewhere(unique, labels), labels) == 0.5
    stated = pa.chunked_array([["yes", "yes", None, "no"] * 10])
    assert separation(rate_elsewhere(stated, labels), labels) == 1.0


def examples(rows: int = 4 * LEAST) -> pa.Table:
    """Of which each column but the number of clicks tells nothing."""
    label = np.arange(rows) // 2 % 2
    return pa.table(
        {
            "label": pa.array(label, pa.float32()),
            "user_country": pa.array([None] * rows, pa.string()),
            "user_click_count_7d": pa.array(label * 1.0),
            "user_recent_tags": pa.array([["a"]] * rows, pa.list_(pa.string())),
            "item_text": pa.array(["text"] * rows),
            "item_price": pa.array([1.0] * rows),
            "item_look": pa.array([[0.5, 1.0]] * rows, pa.list_(pa.float32())),
        }
    )


def test_a_feature_that_states_the_label_is_named_with_its_auc_and_a_remedy() -> None:
    found, check = probe(examples(), FEATURES, 0.99)
    assert isinstance(check, Check) and (check.checked, check.failed, check.kind) == (6, 1, "probe")
    assert "at most 0.99, got user_click_count_7d (AUC 1.0000); drop it" in check.detail
    assert "audit.max_feature_auc" in check.detail
    assert (found[0].feature, found[0].auc, found[0].rows) == ("user_click_count_7d", 1.0, 4 * LEAST)
    assert {p.auc for p in found[1:]} == {0.5}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("user_country", lambda label: ["a" if one else "b" for one in label]),
        ("user_recent_tags", lambda label: [["a"] * int(3 * one) for one in label]),
        ("item_text", lambda label: ["sold" if one else None for one in label]),
        ("item_look", lambda label: [[0.5, 1.0] if one else None for one in label]),
        ("item_price", lambda label: [None if one else 1.0 for one in label]),
    ],
)
def test_every_kind_of_feature_is_probed(column, values) -> None:
    table = examples()
    label = table["label"].to_pylist()
    place = table.schema.get_field_index(column)
    stated = table.set_column(place, column, pa.array(values(label), table.schema.field(column).type))
    assert probe(stated, FEATURES, 0.99)[0][0].feature in (column, "user_click_count_7d")
    assert {p.feature for p in probe(stated, FEATURES, 0.99)[0] if p.auc == 1} == {column, "user_click_count_7d"}


def test_too_few_labels_of_one_kind_are_skipped_with_a_reason() -> None:
    found, skipped = probe(examples(2 * LEAST - 2), FEATURES, 0.99)
    assert found == [] and isinstance(skipped, Skipped) and f"{LEAST} training examples of each label" in skipped.why
