import math
import statistics

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import ContentOptions
from pipelines.content.survey import mean_and_std, moments, survey
from schemas.examples import FeatureSet, SideFeatures

FEATURES = FeatureSet(
    SideFeatures("user", bags=("user_recent_tags",)),
    SideFeatures("item", {"item_tags": "categories", "item_price": "number"}),
)
TAGS = st.one_of(st.none(), st.lists(st.sampled_from("abc"), max_size=3))
ROWS = st.tuples(TAGS, TAGS, st.one_of(st.none(), st.floats(-1e300, 1e300), st.just(math.inf)))


def batch(rows):
    tags, recent, prices = zip(*rows, strict=True)
    return pa.record_batch(
        {
            "user_id": ["u"] * len(rows),
            "item_id": ["i"] * len(rows),
            "item_tags": pa.array(tags, pa.list_(pa.string())),
            "user_recent_tags": pa.array(recent, pa.list_(pa.string())),
            "item_price": pa.array(prices, pa.float64()),
        }
    )


def added_up(batches):
    """Counts added, extremes combined: what the fit does with contributions."""
    total = {}
    for row in (row for each in batches for row in survey(each, FEATURES, ContentOptions()).to_pylist()):
        name = row["what"], row["name"], row["value"]
        count, low, high = total.get(name, (0, math.inf, -math.inf))
        ends = (row["low"], row["high"]) if row["low"] is not None else (low, high)
        total[name] = count + row["count"], min(low, ends[0]), max(high, ends[1])
    return total


@settings(deadline=None, max_examples=50)
@given(st.lists(ROWS, min_size=1, max_size=20), st.integers(1, 19), st.randoms())
def test_contributions_add_up_alike_however_the_rows_are_split(rows, size, random) -> None:
    whole = added_up([batch(rows)])
    for value in "abc":
        holds = sum(value in (tags or []) or value in (recent or []) for tags, recent, _ in rows)
        assert whole.get(("value", "tags", value), (0,))[0] == holds
    moved = random.sample(rows, len(rows))
    parts = [batch(moved[start : start + size]) for start in range(0, len(moved), size)]
    assert added_up(parts) == whole

    if extremes := whole.get(("extremes", "item_price", None)):
        ends = {"item_price": extremes[1:]}

        def sums(batches):
            found = [moments(each, {"item_price": "none"}, ends).to_pylist()[0] for each in batches]
            return tuple(sum(row[name] for row in found) for name in ("count", "total", "squares"))

        assert sums(parts) == sums([batch(rows)])
        mean, std = mean_and_std(*sums(parts), ends["item_price"])
        assert math.isfinite(mean) and math.isfinite(std) and std > 0


def test_mean_and_std_are_those_of_the_values_to_a_step_of_the_range() -> None:
    values = np.random.default_rng(0).gamma(2, 50, 1000)
    one = pa.record_batch({"x": pa.array(values)})
    ends = {"x": (values.min(), values.max())}
    mean, std = mean_and_std(*list(moments(one, {"x": "none"}, ends).to_pylist()[0].values())[1:], ends["x"])
    step = np.ptp(values) / (1 << 16)
    assert mean == pytest.approx(values.mean(), abs=step)
    assert std == pytest.approx(statistics.pstdev(values), abs=step)


@pytest.mark.parametrize(
    ("kind", "column", "own"),
    [
        ("category", pa.array(["7", None, "9"]), 1),
        ("text", pa.array(["7", "x", "9"]), 1),
        ("categories", pa.array([["7"], ["x", "y"], ["8"]], pa.list_(pa.string())), 1),
        ("number", pa.array([7.0, float("nan"), None]), 1),
        ("vector", pa.array([[7.0], None, [8.0]], pa.list_(pa.float32())), 0),
    ],
)
def test_cells_that_are_the_rows_own_id_are_counted(kind, column, own) -> None:
    features = FeatureSet(SideFeatures("user"), SideFeatures("item", {"item_code": kind}))
    ids = pa.array(["7", "x", "i_8"] if kind != "text" else ["7", "y", "i_8"])
    rows = pa.record_batch({"user_id": ids, "item_id": ids, "item_code": column})
    counts = {row["what"]: row["count"] for row in survey(rows, features, ContentOptions()).to_pylist()}
    assert counts["own_id"] == own and counts["filled"] == 3 - column.null_count
