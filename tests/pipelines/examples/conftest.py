"""Small logs and catalogues, written as tables of a few rows; times are single microseconds."""

from contextlib import contextmanager
from functools import partial

import pytest

from pipelines.config import parse_config
from schemas.interactions import INTERACTIONS


@pytest.fixture
def log(spark):
    """("u1 i1 5 click", …): user, item, event_time, action and, optionally, available_time and weight."""
    from schemas.to_spark import spark_schema

    def make(*lines, partitions=None):
        rows = []
        for line in lines:
            user, item, time, action, *more = line.split()
            available = int(more[0]) if more else int(time)
            rows.append((user, item, int(time), available, action, float(more[1]) if len(more) > 1 else 1.0))
        frame = spark.createDataFrame(rows, spark_schema(INTERACTIONS))
        return frame.repartition(partitions) if partitions else frame

    return make


@pytest.fixture
def catalogue(spark):
    """("i1 5 3 red", …): item, valid_from, created_at (or -) and colour (or -)."""
    from schemas.content import content_table
    from schemas.to_spark import spark_schema

    def make(*lines, side="item"):
        rows = []
        for line in lines:
            name, valid_from, created, colour = line.split()
            rows.append((name, int(valid_from), None if created == "-" else int(created), None, _value(colour)))
        return spark.createDataFrame(rows, spark_schema(content_table(side, {"colour": "category"})))

    return make


@pytest.fixture(scope="session")
def building(spark, tmp_path_factory):
    """`with building() as build`: builds as the jobs do it, over files instead of ever longer plans."""
    from pipelines.examples.build import build
    from pipelines.spark import spool

    @contextmanager
    def begun():
        with spool(spark, str(tmp_path_factory.mktemp("spool") / "spool")) as keep:
            yield partial(build, keep=keep)

    return begun


@pytest.fixture
def config():
    """A configuration of single microseconds, changed by section: config(labels={"rule": "threshold"})."""

    def make(**sections):
        source = {"user_id": "u", "item_id": "i", "event_time": {"column": "t"}, "availability_lag": "2us"}
        colour = {"path": "x", "id": "x", "columns": {"colour": {"kind": "category"}}}
        base = {
            "name": "tiny",
            "seed": 7,
            "source": {"interactions": [{"path": "log", **source}], "items": [colour], "users": [colour]},
            "labels": {"rule": "impressions", "positive_actions": ["click"], "label_window": "10us"},
            "split": {"validation_share": 0.2, "test_share": 0.2},
            "preferences": {
                "accuracy": "snapshot",
                "period": "10us",
                "landing_delay": "1us",
                "publish_delay": "2us",
                "windows": ["20us", "lifetime"],
                "entities": ["user", "item", "item.colour"],
                "statistics": [
                    {"name": "click", "kind": "count", "actions": ["click"]},
                    {"name": "click", "kind": "rate", "actions": ["click"], "of_actions": ["impression"]},
                ],
                "recent": ["colour", "item_id"],
                "recent_length": 2,
            },
        }
        for name, values in sections.items():
            base[name] = {**base.get(name, {}), **values}
        return parse_config(base)

    return make


def _value(text):
    return None if text == "-" else text
