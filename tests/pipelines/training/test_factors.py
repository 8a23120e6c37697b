"""Batches with factors: each row's own by its key, and none for a row whose label helped to fit it."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import parse_config
from pipelines.errors import ConfigError
from pipelines.retrieval.factors import Factors
from pipelines.storage import Dataset
from pipelines.training.factors import with_factors
from pipelines.training.input import open_input

START = 1_700_000_000_000_000
ROWS = 60
KNOWN = {"user": [f"u{n}" for n in range(15)], "item": [f"i{n}" for n in range(0, 30, 2)]}
RECONSTRUCTION = {"pointwise": 0, "softmax": 0, "reconstruction": 1}


def factors(until=START):
    draw = np.random.default_rng(1)
    return Factors(
        {side: pa.array(ids) for side, ids in KNOWN.items()},
        {side: draw.normal(size=(15, 4)).astype("float32") for side in KNOWN},
        10.0,
        0.1,
        until,
    )


def config(losses, **model):
    labels = {"rule": "sampled", "positive_actions": ["click"]}
    sections = {"factors": {"rank": 4}, "training": {"losses": losses}, "model": model}
    return parse_config({"name": "small", "seed": 7, "labels": labels, **sections})


@pytest.fixture
def train(make_records):
    """The training rows, ending at minute 50."""
    made = make_records(ROWS)
    manifest = made.manifest.model_copy(update={"as_of": {"validation_start": START + 50 * 60_000_000}})
    return open_input(Dataset(made.path, manifest), "train", 16, seed=1, shuffle=True)


def rows_of(opened, make_examples):
    """Each row of an epoch with the user and item that it is of."""
    examples = make_examples(ROWS).to_pandas().set_index("event_time")
    for inputs, extras in opened.epoch(0).as_numpy_iterator():
        for place, time in enumerate(extras["event_time"]):
            row = {name: values[place] for name, values in inputs.items()}
            row |= {f"target {name}": values[place] for name, values in extras.items()}
            yield row, examples.loc[time, "user_id"], examples.loc[time, "item_id"], time


def test_targets_are_the_rows_own_vectors_and_nan_where_there_is_none(train, make_examples) -> None:
    given, found = factors(), 0
    for row, user, item, _ in rows_of(with_factors(train, given, config(RECONSTRUCTION)), make_examples):
        for side, name in (("user", user), ("item", item)):
            np.testing.assert_array_equal(row[f"target {side}_factor"], given.of(side, pa.array([name]))[0])
            found += name in KNOWN[side]
    assert 30 < found < 72


def test_an_input_is_missing_before_the_factors_time_where_a_loss_looks_at_labels(train, make_examples) -> None:
    cut = START + 30 * 60_000_000
    given = factors(cut)
    seen = {True: 0, False: 0}
    for losses, always in (({"softmax": 1}, False), (RECONSTRUCTION, True)):
        opened = with_factors(train, given, config(losses, factors=True))
        for row, user, _, time in rows_of(opened, make_examples):
            may = (time >= cut or always) and user in KNOWN["user"]
            seen[bool(may)] += 1
            wanted = given.scaled("user", given.of("user", pa.array([user if may else None])))[0]
            np.testing.assert_allclose(row["user_factor"], wanted, rtol=1e-6)
    assert min(seen.values()) > 10


def test_factors_of_the_whole_period_are_no_input_where_a_loss_looks_at_labels(train) -> None:
    with pytest.raises(
        ConfigError, match=r"a vector is no input of a row whose label helped to fit it; set factors.until"
    ):
        with_factors(train, factors(START + 50 * 60_000_000), config({"softmax": 1}, factors=True))


def test_what_needs_factors_says_so() -> None:
    for section in ({"model": {"factors": True}}, {"training": {"losses": {"reconstruction": 1}}}):
        labels = {"rule": "sampled", "positive_actions": ["click"]}
        with pytest.raises(ConfigError, match=r"factors must be set where .* is; add `factors: \{rank: 64\}`"):
            parse_config({"name": "small", "seed": 7, "labels": labels, **section})
