"""How weights move: Adam for dense ones, Adagrad for the rows of embedding tables that a batch looked up.

Adagrad is naturally sparse: a row that no example of the batch looks up stays as it is, exactly, so a step costs what
the batch holds and not what the tables hold. Adam moves every row of a table in every step, by its momentum; the
"lazy" Adam that skips rows is another rule. Written with `keras.ops`, for a compiled step.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from pipelines.config import TrainingOptions

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7
"""Adam's, the values of its paper and of Keras."""
TINY = 1e-12
"""Keeps Adagrad's first quotient finite; gradients of a batch's mean are about 1e-4."""


class Optimizer:
    """Slots of all weights, and one step for all of them.

    `dense` and `tables` are the trainable variables of a model, the rows of its `Table` layers apart. `total_steps` is
    where a schedule of the rates ends.
    """

    def __init__(
        self, dense: Sequence[Any], tables: Sequence[Any], options: TrainingOptions, total_steps: int = 0
    ) -> None:
        self.dense, self.tables = tuple(dense), tuple(tables)
        self.rate, self.table_rate = options.learning_rate, options.table_learning_rate
        self.total_steps = total_steps if options.learning_rate_schedule == "cosine" else 0
        self.steps = keras.Variable(0.0, trainable=False, name="steps")
        self.first = [_zeros(weight.shape) for weight in self.dense]
        self.second = [_zeros(weight.shape) for weight in self.dense]
        self.squares = [_zeros(table.shape[:1]) for table in self.tables]

    @property
    def variables(self) -> list[Any]:
        """What a step changes beside the weights."""
        return [self.steps, *self.first, *self.second, *self.squares]

    def apply(self, gradients: Sequence[Any], looked_up: Iterable[tuple[Any, Any, Any]]) -> None:
        """Move all weights once.

        `gradients`: of each dense weight, None where the loss does not depend on it. `looked_up`, of each look-up of a
        table: its rows variable, places of any shape, their gradients (..., width).
        """
        share = self._share()
        self._adam(gradients, share)
        self._adagrad(looked_up, share)

    def _share(self) -> Any:
        """What the schedule leaves of the rates (Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, no restart)."""
        if not self.total_steps:
            return 1.0
        done = ops.minimum(ops.convert_to_tensor(self.steps) / self.total_steps, 1.0)
        return 0.5 * (1.0 + ops.cos(math.pi * done))

    def _adam(self, gradients: Sequence[Any], share: Any) -> None:
        """Adam (Kingma and Ba, ICLR 2015, algorithm 1, with the bias corrections in the rate)."""
        self.steps.assign(self.steps + 1.0)
        number = ops.convert_to_tensor(self.steps)
        rate = share * self.rate * ops.sqrt(1.0 - BETA2**number) / (1.0 - BETA1**number)
        for weight, first, second, gradient in zip(self.dense, self.first, self.second, gradients, strict=True):
            if gradient is None:
                continue
            first.assign(first + (1.0 - BETA1) * (gradient - first))
            second.assign(second + (1.0 - BETA2) * (ops.square(gradient) - second))
            weight.assign(weight - rate * first / (ops.sqrt(second) + EPSILON))

    def _adagrad(self, looked_up: Iterable[tuple[Any, Any, Any]], share: Any) -> None:
        """Adagrad (Duchi, Hazan and Singer, JMLR 2011) with one sum of squares a row, as in DLRM and FBGEMM.

        Every look-up counts as a gradient of its own: its mean square enters the row's sum. All squares of the batch
        enter before any row moves, so that the order of examples does not matter but for rounding.
        """
        of_table: dict[int, list[tuple[Any, Any]]] = {id(table): [] for table in self.tables}
        for rows, places, gradients in looked_up:
            if gradients is None:
                continue
            flat = ops.reshape(gradients, (-1, rows.shape[1]))
            of_table[id(rows)].append((ops.reshape(places, (-1, 1)), ops.cast(flat, "float32")))
        for table, squares in zip(self.tables, self.squares, strict=True):
            if not (mine := of_table[id(table)]):
                continue
            places = ops.concatenate([place for place, _ in mine]) if len(mine) > 1 else mine[0][0]
            gradient = ops.concatenate([some for _, some in mine]) if len(mine) > 1 else mine[0][1]
            squares.assign(
                ops.scatter_update(squares.value, places, ops.mean(ops.square(gradient), axis=1), reduction="add")
            )
            rate = share * self.table_rate * ops.rsqrt(ops.take(squares.value, places, axis=0) + TINY)
            table.assign(ops.scatter_update(table.value, places, -rate * gradient, reduction="add"))


def _zeros(shape: Any) -> Any:
    return keras.Variable(ops.zeros(shape, "float32"), trainable=False)
