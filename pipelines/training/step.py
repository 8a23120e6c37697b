"""One training step and one evaluation step of an objective, compiled, on TensorFlow or JAX.

On TensorFlow the towers run as a graph, whose matrix products oneDNN does faster than XLA, and the optimizer as one XLA
kernel, where a graph would take a hundred small ones. On JAX the whole step is one program. Both are the same
arithmetic, and repeat it to the bit on a CPU.

Where several devices share a batch, the towers see a part of it each, and the losses all of it (`distribution`).
"""

from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from pipelines.models.blocks import Lookups, Table
from pipelines.training.distribution import ALONE, ROWS, Devices, check_divides, part_of, whole_batch
from pipelines.training.objective import DRAWN, Objective
from pipelines.training.optimizer import Optimizer
from pipelines.training.stateful import Stateful


class Steps(Stateful, Protocol):
    """What the loop calls for every batch of (inputs, extras)."""

    def train(self, inputs: Any, extras: Any) -> Any:
        """Move the weights; the loss, a scalar that float() reads."""

    def evaluate(self, inputs: Any, extras: Any) -> None:
        """Update the objective's metrics."""


def make_steps(
    objective: Objective, options: Any, total_steps: int = 0, full_rows: int = 0, devices: Devices = ALONE
) -> Steps:
    """Steps for the backend at hand, with an optimizer that starts afresh; a schedule ends after `total_steps`.

    `full_rows`: of a batch that is not the last; 0: as many as the first one has. Raises ConfigError where `devices`
    cannot share a batch in equal parts.
    """
    check_divides(devices.parts, "training.batch_size", options.batch_size)
    check_divides(devices.parts, "training.losses.catalogue_negatives", options.losses.catalogue_negatives)
    tables = [layer.rows for layer in objective.model._flatten_layers() if isinstance(layer, Table)]
    known = {id(rows) for rows in tables}
    dense = [weight for weight in objective.model.trainable_variables if id(weight) not in known]
    optimizer = Optimizer(dense, tables, options, total_steps)
    if keras.backend.backend() == "jax":
        return _JaxSteps(objective, optimizer, devices, options.batch_size)
    # Whether a batch is whole must be known alike everywhere.
    full_rows = full_rows if devices.processes == 1 else options.batch_size // devices.processes
    return _TensorflowSteps(objective, optimizer, full_rows, devices, options.batch_size)


class _TensorflowSteps:
    """Variables are changed in place."""

    def __init__(
        self, objective: Objective, optimizer: Optimizer, full_rows: int, devices: Devices, batch_size: int
    ) -> None:
        import tensorflow as tf

        self.tape = tf.GradientTape
        self.objective, self.optimizer = objective, optimizer
        self.devices, self.batch_size = devices, batch_size
        self.compiled = tf.function(self._update, jit_compile=True, autograph=False)
        self.variables = _variables(objective, optimizer)
        self.full = full_rows
        self.trained = tf.function(self._train, autograph=False)
        self.evaluated = tf.function(self._evaluate, autograph=False)

    def train(self, inputs: Any, extras: Any) -> Any:
        """Move the weights; the loss."""
        return self.trained(*_placed(self.devices, inputs, extras, self.batch_size))

    def evaluate(self, inputs: Any, extras: Any) -> None:
        """Update the objective's metrics."""
        self.evaluated(*_placed(self.devices, inputs, extras, self.batch_size))

    def _train(self, inputs: Any, extras: Any, shared: bool) -> Any:
        devices = self.devices if shared else ALONE
        with self.tape() as tape, Lookups() as lookups:
            loss = _loss(self.objective, inputs, extras, devices, training=True)
        sources = ([weight.value for weight in self.optimizer.dense], [taken for _, _, taken in lookups.seen])
        dense, taken = tape.gradient(loss, sources)
        self.rows = [rows for rows, _, _ in lookups.seen]
        # Compiling for the short last batch too would take longer than it saves.
        self.full = self.full or extras["label"].shape[0]
        update = self.compiled if extras["label"].shape[0] == self.full else self._update
        update(devices.mean(dense), *devices.looked_up([places for _, places, _ in lookups.seen], taken))
        return loss

    def _update(self, dense: Any, places: Any, taken: Any) -> None:
        self.optimizer.apply(dense, zip(self.rows, places, taken, strict=True))

    def _evaluate(self, inputs: Any, extras: Any, shared: bool) -> None:
        _loss(self.objective, inputs, extras, self.devices if shared else ALONE, training=False)

    def settle(self) -> None:
        """Nothing to do: the variables are the state."""


class _JaxSteps:
    """Values are handed from step to step, each step's taking the place of the last one's in memory."""

    def __init__(self, objective: Objective, optimizer: Optimizer, devices: Devices, batch_size: int) -> None:
        import jax

        self.jax = jax
        self.objective, self.optimizer = objective, optimizer
        self.devices, self.batch_size = devices, batch_size
        dense = {id(weight) for weight in optimizer.dense}
        self.variables = _variables(objective, optimizer)
        self.others = [variable for variable in self.variables if id(variable) not in dense]
        self.state: Any = None
        self._train = devices.compiled(self._train_step)
        self._evaluate = devices.compiled(self._evaluate_step)

    def train(self, inputs: Any, extras: Any) -> Any:
        """Move the weights; the loss."""
        inputs, extras, _ = _placed(self.devices, _arrays(inputs), _arrays(extras), self.batch_size)
        self.state, loss = self._train(self._values(), inputs, extras)
        return loss

    def evaluate(self, inputs: Any, extras: Any) -> None:
        """Update the objective's metrics."""
        inputs, extras, _ = _placed(self.devices, _arrays(inputs), _arrays(extras), self.batch_size)
        self.state = self._evaluate(self._values(), inputs, extras)

    def settle(self) -> None:
        """Bring the state into the variables."""
        if self.state is not None:
            dense, others = self.state
            for variable, value in zip([*self.optimizer.dense, *self.others], [*dense, *others], strict=True):
                variable.assign(self.devices.local(value))
            self.state = None

    def _values(self) -> Any:
        if self.state is None:
            values = [[self.devices.replicate(v.value) for v in some] for some in (self.optimizer.dense, self.others)]
            self.state = (values[0], values[1])
        return self.state

    def _train_step(self, state: Any, inputs: Any, extras: Any) -> Any:
        dense, others = state

        def forward(dense: Any, probes: Any) -> Any:
            with keras.StatelessScope(self._mapping(dense, others)) as scope, Lookups(probes) as lookups:
                loss = _loss(self.objective, inputs, extras, self.devices, training=True)
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
        places, taken = self.devices.looked_up(places, taken)
        with keras.StatelessScope(self._mapping(dense, others)) as scope:
            self.optimizer.apply(gradients, zip(self.rows, places, taken, strict=True))
        return self._read(scope), loss

    def _evaluate_step(self, state: Any, inputs: Any, extras: Any) -> Any:
        with keras.StatelessScope(self._mapping(*state)) as scope:
            _loss(self.objective, inputs, extras, self.devices, training=False)
        return self._read(scope)

    def _mapping(self, dense: Any, others: Any) -> list[tuple[Any, Any]]:
        return list(zip([*self.optimizer.dense, *self.others], [*dense, *others], strict=True))

    def _read(self, scope: Any) -> Any:
        return tuple([scope.get_current_value(v) for v in some] for some in (self.optimizer.dense, self.others))


def _variables(objective: Objective, optimizer: Optimizer) -> list[Any]:
    """All that a step reads and changes."""
    return [*objective.variables, *objective.metrics_variables, *optimizer.variables]


def _loss(objective: Objective, inputs: Any, extras: Any, devices: Devices, training: bool) -> Any:
    """The loss of the whole batch, from this process's part of it."""
    with devices.part():
        # In float32 whatever the model computes in: losses add up many small numbers.
        said = {name: ops.cast(v, "float32") for name, v in objective(inputs, training=training).items()}
    of_rows = {name: values for name, values in extras.items() if name != DRAWN}
    said, of_rows = devices.gather((said, of_rows))
    return objective.compute_loss(inputs, extras | of_rows, said, training=training)


def _placed(devices: Devices, inputs: Any, extras: Any, batch_size: int) -> tuple[Any, Any, bool]:
    """What a compiled step takes: inputs, extras, and whether each process has a part, else it has all rows."""
    rows, extras = extras.get(ROWS), {name: values for name, values in extras.items() if name != ROWS}
    if devices.parts == 1:
        return inputs, extras, False
    shared = rows is None or int(rows) == batch_size
    drawn = {DRAWN: inputs[DRAWN]} if DRAWN in inputs else {}
    about = {DRAWN: devices.place(extras[DRAWN], shared=False)} if DRAWN in extras else {}
    if not shared:
        of_rows = [{name: values for name, values in some.items() if name != DRAWN} for some in (inputs, extras)]
        tree = whole_batch(devices, {"inputs": of_rows[0], "extras": of_rows[1]}, batch_size // devices.processes)
        inputs, extras = tree["inputs"] | drawn, tree["extras"]
    elif drawn:
        # Drawn items are the same everywhere; each process takes its part of them through the tower.
        inputs = inputs | {DRAWN: part_of(drawn[DRAWN], devices)}
    extras = {name: values for name, values in extras.items() if name != DRAWN}
    return devices.place(inputs, shared), devices.place(extras, shared) | about, shared


def _arrays(batch: Any) -> Any:
    """tf.data's tensors as numpy arrays, without a copy; what JAX has already stays on its device."""
    import jax

    return jax.tree.map(lambda values: values if isinstance(values, jax.Array) else np.asarray(values), batch)
