"""The linear path of a tower: a map of each of its parts, which at the start keeps inner products as they are."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipelines.models.blocks import derived_seed


def linear_starts(values: Sequence[NDArray[np.bool_]], width: int, seed: int) -> list[Any]:
    """A Dense layer a part, (n, columns of the part) -> (n, `width`); `values` tells a part's values from its masks.

    All values take rows of one orthogonal matrix, in turn: while there are no more of them than `width`, the inner
    product of two sides that start alike is the sum of those of their parts, exactly. Past `width` another orthogonal
    matrix follows, and it is so on average. Masks start at zero, so that they add nothing to it.
    """
    count = sum(int(part.sum()) for part in values)
    blocks = [_orthogonal(width, derived_seed(seed, str(number))) for number in range(-(-count // width))]
    rows = iter(np.concatenate(blocks))
    return [_dense(part, rows, width, f"linear_{place}") for place, part in enumerate(values)]


def _dense(part: NDArray[np.bool_], rows: Any, width: int, name: str) -> Any:
    start = np.zeros((len(part), width), "float32")
    for column in np.flatnonzero(part):
        start[column] = next(rows)
    return keras.layers.Dense(
        width, use_bias=False, kernel_initializer=lambda shape, dtype=None: ops.cast(start, dtype), name=name
    )


def _orthogonal(width: int, seed: int) -> NDArray[np.float64]:
    """Uniform over all: the signs make the decomposition unique (Mezzadri, Notices of the AMS 2007)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))
    return np.asarray(q * np.sign(np.diag(r)))
