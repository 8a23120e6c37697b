"""The scan of written examples, beside the same figures computed plainly."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import PreferenceOptions, parse_config
from pipelines.features import feature_set
from pipelines.quality.profile import period_us, scan_examples
from pipelines.storage import arrow_schema
from schemas.examples import example_table
from schemas.preferences import US_PER_DAY

START = 1_700_000_000_000_000
FEATURES = feature_set(
    parse_config(
        {
            "name": "x",
            "seed": 1,
            "labels": {"rule": "sampled", "positive_actions": ["click"]},
            "source": {
                "items": [
                    {"path": "i", "id": "i", "columns": {"tags": {"kind": "categories"}, "text": {"kind": "text"}}}
                ]
            },
            "preferences": {"windows": ["lifetime"]},
        }
    )
)
CONTRACT = example_table(FEATURES)
COUNT = "user_event_count_lifetime"


def examples(n: int, seed: int = 0, **columns) -> pa.Table:
    """Random examples of five days in two splits; a third of the numbers is missing."""
    random = np.random.default_rng(seed)
    rows = [
        {
            "example_id": f"{number:032x}",
            "user_id": f"u{random.integers(9)}",
            "item_id": f"i{random.integers(5)}",
            "event_time": START + int(random.integers(5 * US_PER_DAY)),
            "label": float(random.integers(2)),
            "split": ["train", "test"][number % 2],
            "cold_user": bool(random.integers(2)),
            "cold_item": bool(random.integers(2)),
            "negative_index": int(random.integers(3)),
            COUNT: None if random.random() < 0.3 else float(random.normal(1e6, 3)),
            "item_tags": None if random.random() < 0.3 else ["t"] * int(random.integers(4)),
            "item_text": None if random.random() < 0.3 else "words",
            **{name: values[number] for name, values in columns.items()},
        }
        for number in range(n)
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema(CONTRACT))


@pytest.fixture
def scan(spark, tmp_path):
    def made(table: pa.Table, files: int = 1, group_rows: int = 1 << 16):
        paths = []
        for number in range(files):
            part = table.take([n for n in range(table.num_rows) if n % files == number])
            paths.append(str(tmp_path / f"{files}-{number}.parquet"))
            pq.write_table(part, paths[-1], row_group_size=group_rows)
        return scan_examples(spark, paths, FEATURES, US_PER_DAY)

    return made


def test_figures_are_those_of_a_plain_computation_however_the_rows_lie_in_files(scan) -> None:
    table = examples(400)
    frame = table.to_pandas()
    frame["since"] = frame["event_time"] // US_PER_DAY * US_PER_DAY
    frame["item_tags"] = [None if tags is None else len(tags) for tags in frame["item_tags"]]
    for files, group_rows in ((1, 1000), (3, 17)):
        found = scan(table, files, group_rows)
        profile = found.profile.to_pandas().set_index(["feature", "since", "split"])
        assert list(profile.index) == sorted(profile.index)
        for (since, split), rows in frame.groupby(["since", "split"]):
            for name in (COUNT, "item_tags", "item_text"):
                row = profile.loc[(name, since, split)]
                assert (row["rows"], row["missing"]) == (len(rows), rows[name].isna().sum())
                if name != "item_text":
                    values = rows[name].astype(float)
                    wanted = [values.min(), values.max(), values.mean(), values.std(ddof=0)]
                    assert row[["lowest", "highest", "mean", "std"]].tolist() == pytest.approx(
                        wanted, rel=1e-9, nan_ok=True
                    )
            assert np.isnan(profile.loc[("item_text", since, split)]["mean"])
        for split, rows in frame.groupby("split"):
            ones = rows[rows["label"] == 1]
            assert found.splits[split] == {
                "rows": len(rows),
                "positives": len(ones),
                "cold_user_positives": ones["cold_user"].sum(),
                "cold_item_positives": ones["cold_item"].sum(),
                "cold_both_positives": (ones["cold_user"] & ones["cold_item"]).sum(),
                "drawn_negatives": (rows["negative_index"] > 0).sum(),
            }


def test_users_and_items_of_a_period_are_counted_once_each_by_side(scan) -> None:
    users = [f"u{n % 4}" for n in range(12)]
    table = examples(12, user_id=users, item_id=["i"] * 12, event_time=[START] * 12, split=["train"] * 12)
    profile = scan(table).profile.to_pandas().set_index("feature")
    assert (profile.loc[COUNT, "entities"], profile.loc["item_tags", "entities"]) == (4, 1)


def test_one_value_that_is_not_a_number_shows_in_the_profile(scan) -> None:
    values = [1.0] * 5 + [float("nan")]
    profile = scan(examples(6, event_time=[START] * 6, split=["train"] * 6, **{COUNT: values})).profile.to_pandas()
    assert profile.set_index("feature").loc[COUNT, "highest"] == np.inf


def test_the_same_files_give_the_same_figures_to_the_bit(scan) -> None:
    table = examples(300)
    assert scan(table, 3, 20).profile.equals(scan(table, 3, 20).profile)


def test_a_single_user_or_item_is_noticed(scan) -> None:
    assert scan(examples(9)).single == ()
    assert scan(examples(9, user_id=["u"] * 9)).single == ("user",)


def test_a_time_before_1970_lies_in_its_own_day(scan) -> None:
    times = [-1, 0, 1]
    profile = scan(examples(3, event_time=times, split=["train"] * 3)).profile.to_pandas()
    assert sorted(set(profile["since"])) == [-US_PER_DAY, 0]


@pytest.mark.parametrize(("period", "days"), [("10us", 1), ("1d", 1), ("7d", 7)])
def test_a_period_is_a_day_or_the_snapshots_where_they_are_rarer(period, days) -> None:
    assert period_us(PreferenceOptions(period=period, publish_delay="0s", landing_delay="0s")) == days * US_PER_DAY
