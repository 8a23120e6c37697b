"""What a checkpoint needs of a compiled step, and how JAX's steps hand their values on."""

from collections.abc import Sequence
from typing import Any, Protocol

import keras

from pipelines.training.distribution import Devices


class Stateful(Protocol):
    """A compiled step."""

    @property
    def variables(self) -> Sequence[Any]:
        """All that steps read and change, in an order that follows from model and options: a checkpoint saves it."""

    def settle(self) -> None:
        """Bring what the steps changed into the variables."""


class HandedOn:
    """Values are handed from step to step, each step's taking the place of the last one's in memory: JAX's way."""

    def __init__(self, weights: Sequence[Any], variables: Sequence[Any], devices: Devices) -> None:
        """`weights`: those of `variables` that gradients are taken of."""
        import jax

        self.jax, self.devices = jax, devices
        self.weights, self.variables = list(weights), variables
        known = {id(weight) for weight in weights}
        self.others = [variable for variable in variables if id(variable) not in known]
        self.state: Any = None

    def settle(self) -> None:
        """Bring the state into the variables."""
        if self.state is not None:
            for variable, value in self.mapping(*self.state):
                variable.assign(self.devices.local(value))
            self.state = None

    def values(self) -> Any:
        """(weights, others), at first copies: a step takes the memory of what it is given."""
        if self.state is None:
            self.state = tuple([self.devices.replicate(v.value) for v in some] for some in (self.weights, self.others))
        return self.state

    def mapping(self, weights: Any, others: Any) -> list[tuple[Any, Any]]:
        """Each variable with its value, for a scope."""
        return list(zip([*self.weights, *self.others], [*weights, *others], strict=True))

    def read(self, scope: keras.StatelessScope) -> Any:
        """(weights, others) as a scope leaves them."""
        return tuple([scope.get_current_value(v) for v in some] for some in (self.weights, self.others))
