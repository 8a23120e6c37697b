"""Telling a person how training goes: a bar that moves on a terminal, a line per epoch elsewhere."""

import sys
import time
from typing import TextIO

_BAR_WIDTH = 24
_REDRAW_S = 0.2


class Progress:
    """Draws the steps of the epoch at hand. The number of steps is known from the second epoch on."""

    def __init__(self, epochs: int, stream: TextIO | None = None, unit: str = "examples") -> None:
        self.epochs, self.unit = epochs, unit
        self.stream = stream or sys.stderr
        self.steps: int | None = None
        self.drawn_at = 0.0
        self.epoch = self.step = self.rows = 0
        self.started = time.monotonic()

    def start(self, epoch: int, step: int = 0) -> None:
        """Begin epoch 1, 2, …, or go on with it behind `step` steps."""
        self.steps, self.step = self.step or None, step
        self.epoch, self.rows, self.started = epoch, 0, time.monotonic()

    def advance(self, rows: int, waited_s: float) -> None:
        """One more step, of so many rows; redraw now and then. `waited_s`: for input, so far in this epoch."""
        self.step += 1
        self.rows += rows
        now = time.monotonic()
        if not self.stream.isatty() or now - self.drawn_at < _REDRAW_S:
            return
        self.drawn_at = now
        seconds = max(now - self.started, 1e-9)
        share = min(1.0, self.step / self.steps) if self.steps else 0.0
        bar = ("█" * round(share * _BAR_WIDTH)).ljust(_BAR_WIDTH, "░")
        of_steps = f"{self.step}/{self.steps}" if self.steps else f"{self.step}"
        speed = f"{self.rows / seconds:,.0f} {self.unit}/s  input {waited_s / seconds:.0%}"
        self._write(f"\rtraining  epoch {self.epoch}/{self.epochs}  {bar}  step {of_steps}  {speed}\033[K")

    def line(self, text: str) -> None:
        """A whole line, in place of the bar."""
        self._write(("\r\033[K" if self.stream.isatty() else "") + text + "\n")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
