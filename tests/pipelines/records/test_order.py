import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DuplicateError, ThawError
from pipelines.records.order import global_order, order_key, shard_of, signed


def some_ids(count: int, kind: str = "hashed") -> np.ndarray:
    if kind == "counted":
        return np.array([f"{n:032x}".encode() for n in range(count)])
    return np.array([hashlib.md5(str(n).encode()).hexdigest().encode() for n in range(count)])


@pytest.mark.parametrize("kind", ["hashed", "counted"])
@pytest.mark.parametrize("low_bit", [0, 24, 56])
def test_every_byte_of_the_key_is_uniform_even_for_ids_that_count_up(kind: str, low_bit: int) -> None:
    keys = order_key(some_ids(100_000, kind), seed=3)
    counts = np.bincount((keys >> np.uint64(low_bit) & np.uint64(255)).astype(int), minlength=256)
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


def test_keys_do_not_follow_the_count_in_the_ids() -> None:
    keys = order_key(some_ids(50_000, "counted"), seed=3).astype(np.float64)
    assert abs(np.corrcoef(keys[1:], keys[:-1])[0, 1]) < 4 / np.sqrt(50_000)
    assert abs(np.corrcoef(keys, np.arange(50_000))[0, 1]) < 4 / np.sqrt(50_000)


def test_another_seed_is_an_unrelated_order() -> None:
    first, second = (order_key(some_ids(50_000), seed).astype(np.float64) for seed in (3, 4))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(50_000)


def test_the_key_of_an_id_is_what_it_was_when_records_were_first_written() -> None:
    ids = np.array([b"0" * 32, b"0123456789abcdef" * 2])
    assert order_key(ids, seed=7).tolist() == KNOWN_KEYS


KNOWN_KEYS = [8150872203960861501, 15228183221879104593]


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(60)), st.integers(0, 5))
def test_the_order_is_the_same_however_the_rows_came(rows: list[int], seed: int) -> None:
    ids = some_ids(60)
    shuffled = ids[rows]
    assert (shuffled[global_order(shuffled, seed)] == ids[global_order(ids, seed)]).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4096))
def test_the_number_of_shards_only_cuts_the_one_order(num_shards: int) -> None:
    ids = some_ids(2_000)
    keys = order_key(ids, seed=1)
    shards = shard_of(keys, num_shards)
    assert 0 <= shards.min() <= shards.max() < num_shards
    by_shard = np.lexsort((ids, keys, shards))
    assert (by_shard == global_order(ids, seed=1)).all()


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(80)), st.integers(1, 50))
def test_shards_one_after_the_other_are_one_sequence_however_rows_came_and_however_many_there_are(
    rows: list[int], num_shards: int
) -> None:
    ids = some_ids(80)[rows]
    keys = order_key(ids, seed=9)
    shards = shard_of(keys, num_shards)
    sequence = []
    for shard in range(num_shards):
        own = np.flatnonzero(shards == shard)
        sequence += ids[own[np.lexsort((ids[own], keys[own]))]].tolist()
    whole = some_ids(80)
    assert sequence == whole[global_order(whole, seed=9)].tolist()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_neighbours_in_the_order_are_strangers_in_the_log(seed: int) -> None:
    order = global_order(some_ids(40_000, "counted"), seed).astype(np.float64)
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 4 / np.sqrt(40_000)


def test_signed_keys_sort_as_unsigned_ones_do() -> None:
    keys = np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
    assert (np.diff(signed(keys).astype(object)) > 0).all()


def test_two_rows_of_one_id_are_an_error_that_names_both() -> None:
    ids = some_ids(10)
    ids[7] = ids[2]
    with pytest.raises(DuplicateError, match=r"row 2 and row 7"):
        global_order(ids, seed=1)


@pytest.mark.parametrize("bad", [b"xyz", b"G" * 32, b"A" * 32])
def test_an_id_that_is_not_32_hexadecimal_digits_is_refused(bad: bytes) -> None:
    with pytest.raises(ThawError, match="32"):
        order_key(np.array([bad]), seed=1)
