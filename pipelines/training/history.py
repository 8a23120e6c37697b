"""What came of a training, epoch by epoch: the same for towers and classifiers."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows."""

    number: int
    """1, 2, …"""
    metrics: dict[str, float]
    """Of the training rows, `loss` first; with validation rows the same of those, as `validation_loss` and so on."""
    examples_per_s: float
    input_share: float
    """Part of the training's time in which a step waited for its batch."""

    def line(self, planned: int, unit: str = "examples") -> str:
        """For the person who watches."""
        values = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in self.metrics.items())
        return (
            f"training  epoch {self.number}/{planned}  {values}  {self.examples_per_s:,.0f} {unit}/s"
            f"  input {self.input_share:.0%}"
        )


@dataclass(frozen=True)
class History:
    """What came of all epochs."""

    epochs: tuple[Epoch, ...]
    best_epoch: int
    """The epoch, from 1, whose weights the model has."""
    monitor: str
    """The metric that decided on it."""

    @property
    def best(self) -> Epoch:
        """That epoch."""
        return self.epochs[self.best_epoch - 1]

    def to_json(self) -> dict[str, Any]:
        """What is equal for equal runs: no speeds."""
        return {
            "best_epoch": self.best_epoch,
            "monitor": self.monitor,
            "epochs": [{"epoch": epoch.number, **epoch.metrics} for epoch in self.epochs],
        }
