"""One training step of a classifier, compiled: TensorFlow changes variables in place, JAX hands values on.

Both are the same arithmetic, written with keras.ops, and repeat it to the bit on a CPU. Where several devices share a
batch, each takes its part of the rows through the network, and batch norm's statistics are those of all.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from pipelines.config import ClassifierOptions
from pipelines.errors import ConfigError
from pipelines.losses.classification import class_loss
from pipelines.losses.l2 import l2
from pipelines.training.augment import Augment
from pipelines.training.decay import decaying
from pipelines.training.distribution import ALONE, Devices, check_divides, part_of
from pipelines.training.stateful import Stateful


class ClassStep(Stateful, Protocol):
    """What the loop calls for every batch."""

    def train(self, inputs: Any, labels: Any, at: float) -> Any:
        """Move the weights at the rate of step `at`; the mean loss and the share of right answers, (2,)."""


def make_step(
    model: Any,
    options: ClassifierOptions,
    optimizer: Any,
    schedule: Any,
    augment: Augment | None,
    devices: Devices = ALONE,
) -> ClassStep:
    """The step for the backend at hand. `schedule`: a number, or a function of the step.

    Batches are whole ones, also where `devices` share them. Raises ConfigError for what these cannot do.
    """
    _check_shared(model, options, devices)
    optimizer.build(model.trainable_variables)
    loss, kernels = class_loss(options.loss), decaying(model)

    def said(inputs: Any) -> Any:
        """Scores of all rows, this process's by the network."""
        return devices.gather(ops.cast(model(devices.own(inputs), training=True), "float32"))

    def forward(inputs: Any, labels: Any) -> tuple[Any, Any]:
        """(what is minimised, what is told)."""
        if augment is None:
            scores = said(inputs)
            costs = loss(scores, labels)
        else:
            shares = ops.one_hot(labels, model.output_shape[1], dtype="float32")
            inputs, shares = augment(inputs, shares)
            scores = said(inputs)
            # What is mixed is mixed of two.
            share, classes = ops.top_k(shares, 2)
            costs = sum(share[:, place] * loss(scores, classes[:, place]) for place in range(2))
            labels = classes[:, 0]
        mean = ops.mean(costs)
        right = ops.mean(ops.cast(ops.equal(ops.argmax(scores, axis=1), ops.cast(labels, "int32")), "float32"))
        return mean + l2(kernels, options.loss.l2) if options.loss.l2 else mean, ops.stack([mean, right])

    def move(gradients: Any, at: Any) -> None:
        if callable(schedule):
            optimizer.learning_rate.assign(schedule(at))
        optimizer.apply(gradients, model.trainable_variables)

    drawn = [augment.randomness.state] if augment else []
    variables = [*model.variables, *optimizer.variables, *drawn]
    if keras.backend.backend() == "jax":
        return _JaxStep(model.trainable_variables, variables, forward, move, devices)
    return _TensorflowStep(model, variables, forward, move, devices)


def _check_shared(model: Any, options: ClassifierOptions, devices: Devices) -> None:
    if devices.processes > 1 and options.minutes:
        raise ConfigError(
            f"several processes must train for a number of epochs, got classifier.minutes {options.minutes:g}: their "
            "clocks would not agree on the last step; leave it out"
        )
    dropped = [
        layer.name for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout) and layer.rate
    ]
    if devices.processes > 1 and dropped and keras.backend.backend() == "tensorflow":
        raise ConfigError(
            f"on TensorFlow the processes of a classifier must not drop anything, {dropped[0]} does: each would drop "
            "the same of its part; set classifier.dropout and classifier.tricks.drop_path to 0, or KERAS_BACKEND=jax"
        )


class _TensorflowStep:
    """Variables are changed in place."""

    def __init__(self, model: Any, variables: Sequence[Any], forward: Any, move: Any, devices: Devices) -> None:
        import tensorflow as tf

        self.variables = variables

        def gradients(inputs: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape, devices.synchronized(model):
                loss, told = forward(inputs, labels)
            return devices.mean(tape.gradient(loss, [weight.value for weight in model.trainable_variables])), told

        # Under a strategy Keras's optimizers would add the gradients up once more.
        shared = devices.replicated(gradients)

        def step(inputs: Any, labels: Any, at: Any) -> Any:
            found, told = shared(inputs, labels)
            move(found, at)
            return told

        self.devices = devices
        self.step = tf.function(step, autograph=False)

    def train(self, inputs: Any, labels: Any, at: float) -> Any:
        """Move the weights."""
        check_divides(self.devices.parts, "classifier.batch_size", len(labels))
        return self.step(inputs, labels, np.float32(at))

    def settle(self) -> None:
        """Nothing to do: the variables are the state."""


class _JaxStep:
    """Values are handed from step to step, each step's taking the place of the last one's in memory."""

    def __init__(
        self, weights: Sequence[Any], variables: Sequence[Any], forward: Any, move: Any, devices: Devices
    ) -> None:
        import jax

        self.jax, self.forward, self.move = jax, forward, move
        self.weights, self.variables = list(weights), variables
        known = {id(weight) for weight in weights}
        self.others = [variable for variable in variables if id(variable) not in known]
        self.state: Any = None
        self.devices = devices
        self.step = devices.compiled(self._step)

    def train(self, inputs: Any, labels: Any, at: float) -> Any:
        """Move the weights."""
        check_divides(self.devices.parts, "classifier.batch_size", len(labels))
        rows = self.jax.tree.map(np.asarray, (inputs, labels))
        inputs, labels = self.devices.place(part_of(rows, self.devices), shared=True)
        if self.state is None:
            # Copies, because a step takes the memory of what it is given.
            self.state = [[self.devices.replicate(v.value) for v in some] for some in (self.weights, self.others)]
        self.state, told = self.step(self.state, inputs, labels, np.float32(at))
        return told

    def settle(self) -> None:
        """Bring the state into the variables."""
        if self.state is not None:
            for variable, value in zip([*self.weights, *self.others], [*self.state[0], *self.state[1]], strict=True):
                variable.assign(self.devices.local(value))
            self.state = None

    def _step(self, state: Any, inputs: Any, labels: Any, at: Any) -> Any:
        weights, others = state

        def loss_of(weights: Any) -> Any:
            with keras.StatelessScope(self._mapping(weights, others)) as scope:
                loss, told = self.forward(inputs, labels)
            return loss, ([scope.get_current_value(v) for v in self.others], told)

        (_, (others, told)), gradients = self.jax.value_and_grad(loss_of, has_aux=True)(weights)
        with keras.StatelessScope(self._mapping(weights, others)) as scope:
            self.move(gradients, at)
        return [[scope.get_current_value(v) for v in some] for some in (self.weights, self.others)], told

    def _mapping(self, weights: Any, others: Any) -> list[tuple[Any, Any]]:
        return list(zip([*self.weights, *self.others], [*weights, *others], strict=True))
