import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import US_PER_UNIT
from pipelines.evaluation.slices import AGES, COLD_SLICES, PAST, USER_PAST, age_slices, cold_slices, user_slices


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_warm_and_the_three_kinds_of_cold_partition_all(flags) -> None:
    users, items = np.array(flags).T
    masks = cold_slices(users, items)
    assert tuple(masks) == COLD_SLICES
    assert masks["all"].all()
    assert (sum(masks[name].astype(int) for name in COLD_SLICES[1:]) == 1).all()


@given(st.lists(st.tuples(st.integers(-10, 2**62), st.integers(0, 10**6)), min_size=1, max_size=20))
def test_ages_partition_all_and_so_do_past_positives_of_item_and_user(rows) -> None:
    ages, past = np.array(rows).T
    masks = age_slices(ages, past) | user_slices(past)
    for bands in (AGES, PAST, USER_PAST):
        assert (sum(masks[name].astype(int) for name, _ in bands) == 1).all()


def test_a_band_begins_where_the_one_before_ends() -> None:
    hour = US_PER_UNIT["h"]
    masks = age_slices(np.array([hour - 1, hour]), np.array([9, 10]))
    assert masks["age_first_hour"].tolist() == [True, False]
    assert masks["age_first_day"].tolist() == [False, True]
    assert masks["past_1_to_9"].tolist() == [True, False]
    assert masks["past_10_to_99"].tolist() == [False, True]
    masks = user_slices(np.array([0, 5, 6, 101]))
    assert [[name for name in masks if masks[name][n]] for n in range(4)] == [
        ["user_past_0"], ["user_past_1_to_5"], ["user_past_6_to_20"], ["user_past_101_or_more"],
    ]  # fmt: skip
