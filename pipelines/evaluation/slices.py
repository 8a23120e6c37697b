"""Parts of an evaluated set that are reported on their own.

A slice restricts what is relevant, never what competes: the candidates stay the whole catalogue of the moment.
`warm`, `cold_item`, `cold_user` and `cold_both` partition `all`; so do the ages, so do the numbers of past
positives of the item, and so do those of the user. "Cold" is defined by the training period alone: no event there.
"""

from pipelines.config import US_PER_UNIT
from pipelines.evaluation.metrics import Bools, Ints

COLD_SLICES = ("all", "warm", "cold_item", "cold_user", "cold_both")

AGES: tuple[tuple[str, int], ...] = (
    ("age_first_hour", US_PER_UNIT["h"]),
    ("age_first_day", US_PER_UNIT["d"]),
    ("age_3_days", 3 * US_PER_UNIT["d"]),
    ("age_week", 7 * US_PER_UNIT["d"]),
    ("age_older", 2**63 - 1),
)
"""Slice -> upper end (excluded) of the item's age at t, in microseconds; each begins where the one before ends."""
PAST: tuple[tuple[str, int], ...] = (
    ("past_0", 1),
    ("past_1_to_9", 10),
    ("past_10_to_99", 100),
    ("past_100_or_more", 2**63 - 1),
)
"""Slice -> upper end (excluded) of the item's number of positives known at the clock."""

USER_PAST: tuple[tuple[str, int], ...] = (
    ("user_past_0", 1),
    ("user_past_1_to_5", 6),
    ("user_past_6_to_20", 21),
    ("user_past_21_to_100", 101),
    ("user_past_101_or_more", 2**63 - 1),
)
"""Slice -> upper end (excluded) of the user's own number of positives known at the clock."""


def cold_slices(cold_user: Bools, cold_item: Bools) -> dict[str, Bools]:
    """Slice -> mask. `cold_item` is a new item for a known user; both new is `cold_both`."""
    return {
        "all": cold_user | ~cold_user,
        "warm": ~cold_user & ~cold_item,
        "cold_item": ~cold_user & cold_item,
        "cold_user": cold_user & ~cold_item,
        "cold_both": cold_user & cold_item,
    }


def age_slices(age_us: Ints, past_positives: Ints) -> dict[str, Bools]:
    """Slice -> mask, by the item's age at t (before its known beginning counts as the first hour) and its past."""
    return _banded(age_us, AGES) | _banded(past_positives, PAST)


def user_slices(past_positives: Ints) -> dict[str, Bools]:
    """Slice -> mask, by how much is known of the user."""
    return _banded(past_positives, USER_PAST)


def _banded(values: Ints, bands: tuple[tuple[str, int], ...]) -> dict[str, Bools]:
    low, masks = -(2**63), {}
    for name, high in bands:
        masks[name] = (values >= low) & (values < high)
        low = high
    return masks
