import contextlib
import csv
import gzip
import hashlib
import io
import json
import tarfile
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from pipelines.config import DemoOptions
from pipelines.demo.files import make_demo
from pipelines.demo.pictures import draw
from pipelines.demo.world import make_items
from pipelines.errors import ConfigError

OPTIONS = DemoOptions(users=200, items=300, days=20, impressions=8000, duplicates=50, malformed=40, late=150)
START_MS = 1_735_689_600_000
MS_PER_HOUR = 3_600_000


@pytest.fixture(scope="module")
def demo():
    return make_demo(OPTIONS, 7)


@pytest.fixture(scope="module")
def shop(demo):
    """Content of each file by path, unpacked."""
    return {f.path: gzip.decompress(f.content) if f.path.endswith(".gz") else f.content for f in demo[0]}


@pytest.fixture(scope="module")
def lines(shop):
    return [line for path, content in shop.items() if "interactions/" in path for line in content.decode().splitlines()]


def catalogue(shop):
    return list(csv.DictReader(io.StringIO(shop["items.csv"].decode()), delimiter=";"))


def good_rows(lines):
    """Rows that the contract allows, parsed as strictly as JSON can be."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        whole = all(isinstance(row.get(name), str) for name in ("user", "item"))
        timely = isinstance(row.get("time"), int) and START_MS <= row["time"] <= row["seen"]
        if whole and timely and row["action"] in ("impression", "click"):
            yield row


def key(row):
    return row["user"], row["item"], row["time"], row["action"]


def test_the_planted_numbers_are_exact(demo, lines) -> None:
    files, planted = demo
    good = list(good_rows(lines))
    keys = Counter(map(key, good))
    first = {}
    for row in good:
        first[key(row)] = min(row["seen"], first.get(key(row), row["seen"]))
    assert len(lines) == planted["rows"] == sum(f.rows for f in files if f.table == "interactions")
    assert len(lines) - len(good) == planted["malformed"] == OPTIONS.malformed
    assert len(good) - len(keys) == planted["duplicates"] == OPTIONS.duplicates
    assert sum(seen - k[2] >= MS_PER_HOUR for k, seen in first.items()) == planted["late"] == OPTIONS.late
    actions = Counter(k[3] for k in keys)
    assert actions == {"impression": planted["impressions"], "click": planted["clicks"]}
    assert planted["impressions"] == OPTIONS.impressions
    assert planted["clicks"] / planted["impressions"] == pytest.approx(0.11, abs=0.02)


def test_a_click_follows_its_impression_within_ten_minutes(lines) -> None:
    shown = {}
    for row in good_rows(lines):
        if row["action"] == "impression":
            shown.setdefault((row["user"], row["item"]), []).append(row["time"])
    clicks = [row for row in good_rows(lines) if row["action"] == "click"]
    assert all(any(1000 <= row["time"] - time <= 600_000 for time in shown[row["user"], row["item"]]) for row in clicks)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(demo) -> None:
    contents = {f.path: f.content for f in demo[0]}
    assert {f.path: f.content for f in make_demo(OPTIONS, 7)[0]} == contents
    other = {f.path: f.content for f in make_demo(OPTIONS, 8)[0]}
    assert all(other[path] != content for path, content in contents.items() if path in other)


def test_users_and_items_arrive_every_day_and_none_acts_before(shop, lines) -> None:
    listed = {row["item"]: np.datetime64(row["listed"], "ms").astype(int) for row in catalogue(shop)}
    users = pq.read_table(io.BytesIO(shop["users.parquet"]))
    joined = dict(zip(users["user"].to_pylist(), users["joined"].cast("int64").to_numpy() // 1000, strict=True))
    for arrivals in (listed, joined):
        days = {(time - START_MS) // (24 * MS_PER_HOUR) for time in arrivals.values()}
        assert days >= set(range(OPTIONS.days)) and min(days) < 0
    assert all(max(joined[row["user"]], listed[row["item"]]) <= row["time"] for row in good_rows(lines))
    assert sum(".gz" in path for path in shop) > 1


def test_tastes_are_planted_in_the_truth_and_most_of_them_in_content(shop, lines) -> None:
    truth = {
        side: {row["id"]: np.array(row["vector"]) for row in pq.read_table(io.BytesIO(shop[path])).to_pylist()}
        for side, path in (("user", "truth/users.parquet"), ("item", "truth/items.parquet"))
    }
    rows = {key(row): row for row in good_rows(lines)}.values()
    clicked = {(row["user"], row["item"]) for row in rows if row["action"] == "click"}
    shown = [row for row in rows if row["action"] == "impression"]
    label = [(row["user"], row["item"]) in clicked for row in shown]
    logit = np.array([truth["user"][row["user"]] @ truth["item"][row["item"]] for row in shown])
    assert roc_auc_score(label, logit) > 0.8
    assert (1 / (1 + np.exp(-logit))).mean() == pytest.approx(0.11, abs=0.005)

    # A plain count from content alone: how often the first half's users of an interest clicked a category.
    interests = {
        row["user"]: row["interests"] or [] for row in pq.read_table(io.BytesIO(shop["users.parquet"])).to_pylist()
    }
    category = {row["item"]: row["category"] for row in catalogue(shop)}
    counts: dict[tuple[str, str], list[int]] = {}
    half = len(shown) // 2
    for row, y in zip(shown[:half], label[:half], strict=True):
        for interest in interests[row["user"]]:
            pair = counts.setdefault((interest, category[row["item"]]), [1, 9])
            pair[0 if y else 1] += 1
    rate = {pair: yes / (yes + no) for pair, (yes, no) in counts.items()}
    score = [
        np.mean([rate.get((interest, category[row["item"]]), 0.1) for interest in interests[row["user"]]] or [0.1])
        for row in shown[half:]
    ]
    assert roc_auc_score(label[half:], score) > 0.6


def test_the_log_and_the_catalogue_are_what_they_were_without_pictures(shop) -> None:
    told = hashlib.sha256()
    for path in sorted(path for path in shop if path.startswith("interactions") or path == "items.csv"):
        told.update(path.encode() + shop[path])
    assert told.hexdigest() == "9d3dca4238d6476872ed1e0269dfc792ba4ab3d71ff617486ff16b676d7081bb"


def pictures_of(shop):
    """Rows of the table that can be read, and the pixels of each, in [0, 1]."""
    rows, found = [], []
    with tarfile.open(fileobj=io.BytesIO(shop["images.tar"])) as archive:
        for row in csv.DictReader(io.StringIO(shop["images.csv"].decode())):
            with contextlib.suppress(OSError):
                found.append(np.asarray(Image.open(archive.extractfile(row["picture"]))) / 255)
                rows.append(row)
    return rows, np.stack(found)


def test_most_items_have_a_picture_with_their_category_and_the_time_they_were_listed(demo, shop) -> None:
    rows, pixels = pictures_of(shop)
    listed = list(csv.DictReader(io.StringIO(shop["images.csv"].decode())))
    items = {row["item"]: row for row in catalogue(shop)}
    assert 0.9 * OPTIONS.items < len(listed) < OPTIONS.items
    assert len(listed) - len(rows) == demo[1]["unreadable_images"] == 0
    assert pixels.shape == (len(rows), 24, 24, 3)
    for row in rows:
        assert row["category"] == items[row["item"]]["category"]
        assert int(row["listed"]) == np.datetime64(items[row["item"]]["listed"], "ms").astype(int)


def test_as_many_pictures_as_planted_are_cut_off() -> None:
    files, planted = make_demo(OPTIONS.model_copy(update={"items": 1000}), 7)
    shop = {f.path: f.content for f in files}
    listed = shop["images.csv"].decode().count("\n") - 1
    assert listed - len(pictures_of(shop)[0]) == planted["unreadable_images"] == 2


def test_a_picture_shows_some_of_what_no_attribute_tells() -> None:
    items = make_items(OPTIONS.model_copy(update={"items": 1500}), 7)
    contrast = draw(items, 7).std(axis=(1, 2, 3))
    assert 0.3 < np.corrcoef(contrast, items.vector[:, -1])[0, 1] < 0.9


def test_more_faults_than_events_are_refused() -> None:
    for fault in ("late", "duplicates"):
        with pytest.raises(ConfigError, match=rf"demo.{fault} must be at most"):
            make_demo(OPTIONS.model_copy(update={fault: 10_000}), 7)
