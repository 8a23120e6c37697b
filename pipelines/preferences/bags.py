"""Values of the latest events as lists, in Arrow. Which events are the latest is `windows`' to say. [numpy]"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.preferences.windows import NONE, Ints


def bags(values: pa.Array, latest: Ints) -> pa.Array:
    """list<string> (rows,): the values of each row's events, in the row's order; null where it has no event.

    `values` (events,) are strings or lists of strings, a null adds nothing; `latest` (rows, length) are indices of
    events, NONE where there is none.
    """
    if pa.types.is_string(values.type):
        start, count, flat = np.arange(len(values)), pc.is_valid(values), values
    else:
        start, count, flat = values.offsets.to_numpy()[:-1], pc.list_value_length(values).fill_null(0), values.values
    # One more event at the end, which NONE (-1) picks, has no value.
    start, count = np.append(start, 0), np.append(count.to_numpy(zero_copy_only=False), 0).astype(np.int64)
    taken = count[latest]
    ends = np.cumsum(taken.ravel())
    within = np.arange(taken.sum()) - np.repeat(ends - taken.ravel(), taken.ravel())
    picked = np.repeat(start[latest.ravel()], taken.ravel()) + within
    offsets = np.concatenate([[0], np.cumsum(taken.sum(axis=1))])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat.take(pa.array(picked)))
    return pc.if_else(pa.array((latest != NONE).any(axis=1)), lists, None)


def largest(times: Ints, latest: Ints) -> pa.Array:
    """int64 (rows,): the largest time of each row's events; null where it has no event."""
    smallest = np.iinfo(np.int64).min
    found = np.append(times, smallest)[latest].max(axis=1)
    return pa.array(found, mask=found == smallest)


def alphabetical(values: pa.Array) -> Ints:
    """Place of each string among the distinct ones, in order of code points."""
    coded = values.dictionary_encode()
    place = np.empty(len(coded.dictionary), np.int64)
    place[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(place))
    places: Ints = place[coded.indices.to_numpy()]
    return places
