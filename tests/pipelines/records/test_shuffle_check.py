from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import ShuffleError
from pipelines.records.shuffle_check import SCALE, Summary, check_shuffle, summarise

ROWS = 20_000
TIMES = np.arange(ROWS, dtype=np.int64) * 1_000_003
LABELS = (np.random.default_rng(0).random(ROWS) < 0.2).astype(np.float32)


def shards(order: np.ndarray, cuts: list[int] | int = 8) -> list[Summary]:
    span = (int(TIMES.min()), int(TIMES.max()))
    return [summarise(TIMES[rows], LABELS[rows], span) for rows in np.array_split(order, cuts)]


SHUFFLED = np.random.default_rng(1).permutation(ROWS)


def test_a_shuffle_passes_and_its_figures_are_those_of_numpy() -> None:
    figures = check_shuffle("train", shards(SHUFFLED), 0.05)
    times = TIMES[SHUFFLED]
    assert figures["serial_correlation"] == pytest.approx(np.corrcoef(times[1:], times[:-1])[0, 1], abs=1e-5)
    assert figures["rows"] == ROWS and figures["positives"] == int(LABELS.sum())


@pytest.mark.parametrize(
    ("order", "cuts", "figure"),
    [
        (np.arange(ROWS), 8, "serial_correlation"),
        # What a per-worker deal of a sorted log gives: 0, 4, 8, … in the first shard.
        (np.concatenate([np.arange(ROWS)[start::4] for start in range(4)]), 4, "serial_correlation"),
        (SHUFFLED[np.argsort(LABELS[SHUFFLED], kind="stable")], 8, "label_runs"),
        (SHUFFLED, [100, 9_000], "shard_sizes"),
        (SHUFFLED[np.argsort(TIMES[SHUFFLED] > TIMES.mean(), kind="stable")], 2, "shard_times"),
    ],
)
def test_an_order_that_is_no_shuffle_is_refused(order: np.ndarray, cuts: list[int] | int, figure: str) -> None:
    limit = 2.0 if figure == "shard_times" else 0.05
    with pytest.raises(ShuffleError, match=f"{figure} of the shuffled train records"):
        check_shuffle("train", shards(order, cuts), limit)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_sums_of_pieces_are_the_sum_of_the_whole_wherever_it_is_cut(rows: list, cuts: list[int]) -> None:
    times = np.array([time for time, _ in rows], np.int64)
    labels = np.array([label for _, label in rows], np.float32)
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    pieces = [summarise(times[a:b], labels[a:b], (0, 10**6)) for a, b in pairwise(bounds)]
    assert reduce(Summary.then, pieces, Summary()) == summarise(times, labels, (0, 10**6))


def test_few_rows_one_time_and_one_label_are_no_failure() -> None:
    assert check_shuffle("test", [], 0.05)["rows"] == 0
    assert check_shuffle("test", [Summary(), Summary()], 0.05)["rows"] == 0
    one = summarise(np.zeros(3, np.int64), np.ones(3, np.float32), (0, 0))
    assert check_shuffle("test", [one], 0.05)["serial_correlation"] == 0.0
    two = summarise(np.array([0, 9], np.int64), np.array([0, 1], np.float32), (0, 9))
    assert two.time == SCALE and check_shuffle("test", [two, Summary()], 0.05)["limit"] > 1
