"""L2 regularisation: the sum of squared weights. Which weights is left to `training.decay`."""

from collections.abc import Sequence
from typing import Any

from keras import ops


def l2(weights: Sequence[Any], strength: float) -> Any:
    """`strength` times the sum of squares over all weights; 0 of none.

    Of weights that score an input alike it is smallest for those that spread over all its numbers: (1, 0, 0, 0) costs
    1, (¼, ¼, ¼, ¼) costs ¼.
    """
    return strength * sum((ops.sum(ops.square(weight)) for weight in weights), start=ops.zeros(()))
