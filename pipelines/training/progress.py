"""Telling a person how training goes: a bar that moves on a terminal, a line per epoch elsewhere."""

import sys
import time
from typing import Any, TextIO

import keras

_BAR_WIDTH = 24
_REDRAW_S = 0.2


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Draws the steps of the epoch at hand. The number of steps is known from the second epoch on."""

    def __init__(self, epochs: int, stream: TextIO | None = None) -> None:
        super().__init__()
        self.epochs = epochs
        self.stream = stream or sys.stderr
        self.steps: int | None = None
        self.drawn_at = 0.0
        self.epoch = 1
        self.seen = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Redraw now and then."""
        self.seen = batch + 1
        now = time.monotonic()
        if not self.stream.isatty() or now - self.drawn_at < _REDRAW_S:
            return
        self.drawn_at = now
        share = min(1.0, self.seen / self.steps) if self.steps else 0.0
        bar = ("█" * round(share * _BAR_WIDTH)).ljust(_BAR_WIDTH, "░")
        of_steps = f"{self.seen}/{self.steps}" if self.steps else f"{self.seen}"
        self._write(f"\rtraining  epoch {self.epoch}/{self.epochs}  {bar}  step {of_steps}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Learn how many steps an epoch has."""
        self.steps, self.seen = self.seen, 0

    def line(self, text: str) -> None:
        """A whole line, in place of the bar."""
        self._write(("\r\033[K" if self.stream.isatty() else "") + text + "\n")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
