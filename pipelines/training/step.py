"""One training step and one evaluation step of an objective, compiled, on TensorFlow or JAX.

On TensorFlow the towers run as a graph, whose matrix products oneDNN does faster than XLA, and the optimizer as one XLA
kernel, where a graph would take a hundred small ones. On JAX the whole step is one program. Both are the same
arithmetic, and repeat it to the bit on a CPU.
"""

from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from pipelines.models.blocks import Lookups, Table
from pipelines.training.objective import Objective
from pipelines.training.optimizer import Optimizer
from pipelines.training.run import Stateful


class Steps(Stateful, Protocol):
    """What the loop calls for every batch of (inputs, extras)."""

    def train(self, inputs: Any, extras: Any) -> Any:
        """Move the weights; the loss, a scalar that float() reads."""

    def evaluate(self, inputs: Any, extras: Any) -> None:
        """Update the objective's metrics."""


def make_steps(objective: Objective, options: Any, total_steps: int = 0, full_rows: int = 0) -> Steps:
    """Steps for the backend at hand, with an optimizer that starts afresh; a schedule ends after `total_steps`.

    `full_rows`: of a batch that is not the last; 0: as many as the first one has.
    """
    tables = [layer.rows for layer in objective.model._flatten_layers() if isinstance(layer, Table)]
    known = {id(rows) for rows in tables}
    dense = [weight for weight in objective.model.trainable_variables if id(weight) not in known]
    optimizer = Optimizer(dense, tables, options, total_steps)
    if keras.backend.backend() == "jax":
        return _JaxSteps(objective, optimizer)
    return _TensorflowSteps(objective, optimizer, full_rows)


class _TensorflowSteps:
    """Variables are changed in place."""

    def __init__(self, objective: Objective, optimizer: Optimizer, full_rows: int) -> None:
        import tensorflow as tf

        self.tape = tf.GradientTape
        self.objective, self.optimizer = objective, optimizer
        self.compiled = tf.function(self._update, jit_compile=True, autograph=False)
        self.variables = _variables(objective, optimizer)
        self.full = full_rows
        self.train = tf.function(self._train, autograph=False)
        self.evaluate = tf.function(self._evaluate, autograph=False)

    def _train(self, inputs: Any, extras: Any) -> Any:
        with self.tape() as tape, Lookups() as lookups:
            said = _scored(self.objective, inputs, training=True)
            loss = self.objective.compute_loss(inputs, extras, said, training=True)
        sources = ([weight.value for weight in self.optimizer.dense], [taken for _, _, taken in lookups.seen])
        dense, taken = tape.gradient(loss, sources)
        self.rows = [rows for rows, _, _ in lookups.seen]
        # Compiling for the short last batch too would take longer than it saves.
        self.full = self.full or extras["label"].shape[0]
        update = self.compiled if extras["label"].shape[0] == self.full else self._update
        update(dense, [places for _, places, _ in lookups.seen], taken)
        return loss

    def _update(self, dense: Any, places: Any, taken: Any) -> None:
        self.optimizer.apply(dense, zip(self.rows, places, taken, strict=True))

    def _evaluate(self, inputs: Any, extras: Any) -> None:
        said = _scored(self.objective, inputs, training=False)
        self.objective.compute_loss(inputs, extras, said, training=False)

    def settle(self) -> None:
        """Nothing to do: the variables are the state."""


class _JaxSteps:
    """Values are handed from step to step, each step's taking the place of the last one's in memory."""

    def __init__(self, objective: Objective, optimizer: Optimizer) -> None:
        import jax

        self.jax = jax
        self.objective, self.optimizer = objective, optimizer
        dense = {id(weight) for weight in optimizer.dense}
        self.variables = _variables(objective, optimizer)
        self.others = [variable for variable in self.variables if id(variable) not in dense]
        self.state: Any = None
        self._train = jax.jit(self._train_step, donate_argnums=0)
        self._evaluate = jax.jit(self._evaluate_step, donate_argnums=0)

    def train(self, inputs: Any, extras: Any) -> Any:
        """Move the weights; the loss."""
        self.state, loss = self._train(self._values(), _arrays(inputs), _arrays(extras))
        return loss

    def evaluate(self, inputs: Any, extras: Any) -> None:
        """Update the objective's metrics."""
        self.state = self._evaluate(self._values(), _arrays(inputs), _arrays(extras))

    def settle(self) -> None:
        """Bring the state into the variables."""
        if self.state is not None:
            dense, others = self.state
            for variable, value in zip([*self.optimizer.dense, *self.others], [*dense, *others], strict=True):
                variable.assign(value)
            self.state = None

    def _values(self) -> Any:
        if self.state is None:
            # Copies, because a step takes the memory of what it is given.
            values = [[v.value.copy() for v in some] for some in (self.optimizer.dense, self.others)]
            self.state = (values[0], values[1])
        return self.state

    def _train_step(self, state: Any, inputs: Any, extras: Any) -> Any:
        dense, others = state

        def forward(dense: Any, probes: Any) -> Any:
            with keras.StatelessScope(self._mapping(dense, others)) as scope, Lookups(probes) as lookups:
                said = _scored(self.objective, inputs, training=True)
                loss = self.objective.compute_loss(inputs, extras, said, training=True)
            return loss, [scope.get_current_value(v) for v in self.others], lookups

        # A first look at the forward pass tells how many rows each look-up takes.
        shapes: list[Any] = []

        def look(dense: Any) -> Any:
            loss, _, lookups = forward(dense, None)
            shapes.extend((taken.shape, taken.dtype) for _, _, taken in lookups.seen)
            return loss

        self.jax.eval_shape(look, dense)
        probes = [self.jax.numpy.zeros(shape, dtype) for shape, dtype in shapes]

        def loss_of(dense: Any, probes: Any) -> Any:
            loss, others, lookups = forward(dense, probes)
            self.rows = [rows for rows, _, _ in lookups.seen]
            return loss, (others, [places for _, places, _ in lookups.seen])

        (loss, (others, places)), (gradients, taken) = self.jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)(
            dense, probes
        )
        with keras.StatelessScope(self._mapping(dense, others)) as scope:
            self.optimizer.apply(gradients, zip(self.rows, places, taken, strict=True))
        return self._read(scope), loss

    def _evaluate_step(self, state: Any, inputs: Any, extras: Any) -> Any:
        with keras.StatelessScope(self._mapping(*state)) as scope:
            said = _scored(self.objective, inputs, training=False)
            self.objective.compute_loss(inputs, extras, said, training=False)
        return self._read(scope)

    def _mapping(self, dense: Any, others: Any) -> list[tuple[Any, Any]]:
        return list(zip([*self.optimizer.dense, *self.others], [*dense, *others], strict=True))

    def _read(self, scope: Any) -> Any:
        return tuple([scope.get_current_value(v) for v in some] for some in (self.optimizer.dense, self.others))


def _variables(objective: Objective, optimizer: Optimizer) -> list[Any]:
    """All that a step reads and changes."""
    return [*objective.variables, *objective.metrics_variables, *optimizer.variables]


def _scored(objective: Objective, inputs: Any, training: bool) -> dict[str, Any]:
    """What the model says, in float32 whatever it computes in: losses add up many small numbers."""
    return {name: ops.cast(values, "float32") for name, values in objective(inputs, training=training).items()}


def _arrays(batch: Any) -> dict[str, Any]:
    """tf.data's tensors as numpy arrays, without a copy."""
    return {name: _arrays(values) if isinstance(values, dict) else np.asarray(values) for name, values in batch.items()}
