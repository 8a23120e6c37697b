"""Which items a user already has a positive with: what `filter_seen` leaves out."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import LabelOptions


def positive_rows(interactions: pa.Table, labels: LabelOptions) -> pa.Table:
    """The log's positive events: a positive action, of at least the threshold where the label rule has one."""
    mask = pc.is_in(interactions["action"], value_set=pa.array(labels.positive_actions, pa.string()))
    if labels.rule == "threshold":
        mask = pc.and_(mask, pc.greater_equal(interactions["weight"], labels.threshold))
    return interactions.filter(mask)


class SeenItems:
    """For a block of users, the (row, item) pairs to leave out: an index over positive events, by user."""

    def __init__(self, positives: pa.Table, user_ids: pa.Array, item_ids: pa.Array) -> None:
        users = pc.index_in(positives["user_id"].combine_chunks(), user_ids)
        items = pc.index_in(positives["item_id"].combine_chunks(), item_ids)
        known = pc.and_(pc.is_valid(users), pc.is_valid(items))
        rows = users.filter(known).to_numpy(zero_copy_only=False).astype(np.int64)
        order = np.argsort(rows, kind="stable")
        self._users = rows[order]
        self._items = items.filter(known).to_numpy(zero_copy_only=False).astype(np.int64)[order]

    def __call__(self, start: int, stop: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Pairs for users `start` to `stop`: row within the block, item index."""
        low, high = np.searchsorted(self._users, [start, stop])
        return self._users[low:high] - start, self._items[low:high]
