"""Numbers to the bytes of a record and back."""

import numpy as np
import pytest

from pipelines.records.numbers import from_varints, to_bytes
from schemas.manifest import ColumnEntry


@pytest.mark.parametrize("width", range(1, 11))
def test_varints_of_every_width_come_back(width: int) -> None:
    column = ColumnEntry(name="n", type="int64", width=width)
    largest = 2 ** min(7 * width, 63) - 1
    values = np.array([0, 1, largest // 2, largest, 85 % (largest + 1), *([-1, -(2**63)] if width == 10 else [])])
    digits = to_bytes(values, column)
    np.testing.assert_array_equal(from_varints(digits), values)
    np.testing.assert_array_equal(from_varints(digits[::-1].reshape(-1, 1, width)), values[::-1, None])
