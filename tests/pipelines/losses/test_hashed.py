"""A hashed set holds its keys and no others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops

from pipelines.losses import hashed as module
from pipelines.losses.hashed import hashed
from pipelines.losses.known import known_positives

KEYS = st.sampled_from(["int64", "int32"]).flatmap(
    lambda dtype: st.tuples(
        arrays(dtype, st.integers(1, 60), elements=st.integers(-9, 9) | st.integers(-(2**31), 2**31 - 1)),
        arrays(dtype, st.integers(0, 60), elements=st.integers(-9, 9) | st.integers(-(2**31), 2**31 - 1)),
    )
)


@settings(max_examples=40, deadline=None)
@given(KEYS)
def test_a_key_is_found_if_and_only_if_it_was_given(keys) -> None:
    given_ones, others = keys
    asked = np.concatenate([given_ones, others])
    assert np.array_equal(hashed(given_ones).has(asked), np.isin(asked, given_ones))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 5) | st.integers(0, 2**63 - 1)] * 2), min_size=1, max_size=30))
def test_a_pair_is_known_if_and_only_if_it_was_given(pairs) -> None:
    users, items = np.array(pairs).T
    known = known_positives(users, items).among(*(ops.convert_to_tensor(v) for v in (users[:, None], items[None])))
    together = [[(int(user), int(item)) in set(pairs) for item in items] for user in users]
    assert ops.convert_to_numpy(known).tolist() == together


@pytest.mark.parametrize("size", [7372, 7373])
def test_a_table_as_full_as_it_gets_holds_all_and_equal_keys_make_equal_tables(size) -> None:
    keys = np.random.default_rng(3).integers(-(2**63), 2**63 - 1, size)
    found, again = hashed(keys), hashed(keys[::-1])
    assert found.bits == (14 if size == 7372 else 15)
    assert np.array_equal(found.table, again.table) and found.factors == again.factors
    assert ops.convert_to_numpy(found.has(keys)).all()
    assert not ops.convert_to_numpy(found.has(keys + 1)).any()


def test_hashes_that_leave_keys_without_a_place_are_drawn_again_and_then_the_table_doubles(monkeypatch) -> None:
    # A table of two places for three keys: no hashes can do it.
    monkeypatch.setattr(module, "FULL", 1.5)
    monkeypatch.setattr(module, "ROUNDS", 5)
    keys = np.array([3, 5, 8])
    found = hashed(keys)
    assert found.bits > 1
    assert np.array_equal(found.has(np.arange(12)), np.isin(np.arange(12), keys))
