"""Learning rates over the steps of a training: two schedules that Keras lacks, and its own by name."""

import math
from typing import Any

import keras
from keras import ops

from pipelines.config import ScheduleOptions


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Up to the peak and down to almost nothing, each along half a cosine wave (Smith and Topin 2017; fastai's form).

    From peak / start_divisor at step 0 to the peak at the end of `warm_up`, a share of `steps`, to peak / start_divisor
    / end_divisor at the last step and after it. Rates are those of PyTorch's OneCycleLR.
    """

    def __init__(
        self, peak: float, steps: int, warm_up: float = 0.3, start_divisor: float = 25.0, end_divisor: float = 1e4
    ) -> None:
        super().__init__()
        self.peak, self.steps, self.warm_up = peak, steps, warm_up
        self.start_divisor, self.end_divisor = start_divisor, end_divisor

    def __call__(self, step: Any) -> Any:
        """The rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        top, last = self.warm_up * self.steps - 1, float(self.steps - 1)
        start = self.peak / self.start_divisor
        rising = _wave(start, self.peak, step / max(top, 1e-6))
        falling = _wave(self.peak, start / self.end_divisor, (step - top) / max(last - top, 1e-6))
        return ops.where(step < top, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Its arguments."""
        names = ("peak", "steps", "warm_up", "start_divisor", "end_divisor")
        return {name: getattr(self, name) for name in names}


class PowerCosine(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Cosine power annealing (Hundt, Jain and Hager 2019, sharpDARTS) in cycles, after a warm-up, from ever lower tops.

    In a line up to the peak over `warm_up` steps; then `cycles` of equal length until `steps`. Cycle i falls from
    peak · decay^i to `floor`, by the share (p^x - 1) / (p - 1) with x = (1 + cos πf) / 2 at the share f of the cycle
    and p = `power`: the larger, the faster it falls at first. 1 is the cosine itself. After the last step it stays at
    the floor.
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        warm_up: int = 0,
        cycles: int = 1,
        decay: float = 1.0,
        power: float = 10.0,
        floor: float = 0.0,
    ) -> None:
        super().__init__()
        self.peak, self.steps, self.warm_up, self.cycles = peak, steps, warm_up, cycles
        self.decay, self.power, self.floor = decay, power, floor

    def __call__(self, step: Any) -> Any:
        """The rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        # Never 0 at the first step, and the peak where the first cycle starts.
        rising = self.floor + (self.peak - self.floor) * (step + 1) / (self.warm_up + 1)
        done = (step - self.warm_up) * self.cycles / max(self.steps - self.warm_up, 1)
        cycle = ops.clip(ops.floor(done), 0, self.cycles - 1)
        wave = (1 + ops.cos(math.pi * ops.clip(done - cycle, 0, 1))) / 2
        share = wave if self.power == 1 else (ops.power(self.power, wave) - 1) / (self.power - 1)
        falling = self.floor + (self.peak * ops.power(self.decay, cycle) - self.floor) * share
        return ops.where(step < self.warm_up, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Its arguments."""
        names = ("peak", "steps", "warm_up", "cycles", "decay", "power", "floor")
        return {name: getattr(self, name) for name in names}


def schedule(options: ScheduleOptions, steps: int) -> Any:
    """The learning rate that is configured, for a training of `steps`: a number, or a schedule of Keras or ours."""
    of_keras, rate = keras.optimizers.schedules, options.learning_rate
    if options.name == "exponential":
        return of_keras.ExponentialDecay(rate, steps, options.factor)
    if options.name == "steps":
        # Keras changes the rate after its boundary.
        boundaries = [math.ceil(share * steps) - 1 for share in sorted(options.milestones)]
        return of_keras.PiecewiseConstantDecay(
            boundaries, [rate * options.factor**passed for passed in range(len(boundaries) + 1)]
        )
    if options.name == "cosine":
        return of_keras.CosineDecay(rate, steps)
    if options.name == "one_cycle":
        return OneCycle(rate, steps, options.warm_up)
    if options.name == "power_cosine":
        warm_up = int(options.warm_up * steps)
        return PowerCosine(rate, steps, warm_up, options.cycles, options.decay, options.power)
    return rate


def _wave(start: float, end: float, share: Any) -> Any:
    """From start to end along half a cosine wave."""
    return end + (start - end) * (1 + ops.cos(math.pi * ops.clip(share, 0, 1))) / 2
