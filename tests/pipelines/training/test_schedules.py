"""Learning rates worked out by hand."""

import math

import keras
import numpy as np
import pytest

from pipelines.config import ScheduleOptions
from pipelines.training.schedules import OneCycle, PowerCosine, schedule


def rates(of, steps) -> list[float]:
    return [float(of(step)) for step in steps]


def test_one_cycle_rises_and_falls_along_half_waves() -> None:
    # A peak of 1 at step 0.3·11 - 1 = 2.3; halfway up, halfway down, the last step, and after it.
    got = rates(OneCycle(1.0, 11, start_divisor=10, end_divisor=100), [0, 1.15, 2.3, 6.15, 10, 50])
    assert got == pytest.approx([0.1, 0.55, 1.0, (1 + 0.001) / 2, 0.001, 0.001], rel=1e-5)


def test_one_cycle_without_a_rise_starts_at_its_peak() -> None:
    assert rates(OneCycle(1.0, 10, warm_up=0.1), [0, 9]) == pytest.approx([1.0, 4e-6], rel=1e-4)


def test_power_cosine_falls_fast_at_first() -> None:
    # Halfway (√10 - 1) / 9, where a cosine has a half.
    assert rates(PowerCosine(1.0, 100), [0, 50, 100, 500]) == pytest.approx(
        [1, (math.sqrt(10) - 1) / 9, 0, 0], abs=1e-6
    )
    assert rates(PowerCosine(1.0, 100, power=1.0), [0, 50, 100]) == pytest.approx([1, 0.5, 0], abs=1e-6)


def test_power_cosine_cycles_start_lower_each_time() -> None:
    cycles = PowerCosine(0.8, 34, warm_up=4, cycles=3, decay=0.5, power=1.0, floor=0.1)
    # Up by fifths of 0.7 from 0.1; cycles of ten steps from 0.8, 0.4 and 0.2, each halfway in its middle.
    got = rates(cycles, [0, 3, 4, 9, 14, 19, 24, 29, 34])
    assert got == pytest.approx([0.24, 0.66, 0.8, 0.45, 0.4, 0.25, 0.2, 0.15, 0.1], rel=1e-5)


@pytest.mark.parametrize("ours", [OneCycle(0.5, 20, 0.2), PowerCosine(0.5, 20, 4, 2, 0.7)], ids=["one", "power"])
def test_a_schedule_is_saved_and_read_again(ours) -> None:
    steps = np.arange(25)
    again = type(ours).from_config(ours.get_config())
    assert rates(again, steps) == rates(ours, steps)
    assert len(set(rates(ours, steps))) > 15


def test_the_configured_schedule_is_keras_s_own_where_there_is_one() -> None:
    assert schedule(ScheduleOptions(learning_rate=0.2), 100) == 0.2
    steps = schedule(ScheduleOptions(name="steps", learning_rate=1.0, milestones=(0.75, 0.5)), 100)
    assert rates(steps, [0, 49, 50, 74, 75]) == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    exponential = schedule(ScheduleOptions(name="exponential", learning_rate=1.0, factor=0.01), 100)
    assert rates(exponential, [0, 50, 100]) == pytest.approx([1, 0.1, 0.01], rel=1e-5)
    assert isinstance(schedule(ScheduleOptions(name="cosine"), 9), keras.optimizers.schedules.CosineDecay)
    assert rates(schedule(ScheduleOptions(name="one_cycle", learning_rate=1.0), 100), [29]) == [1]
    power = schedule(ScheduleOptions(name="power_cosine", learning_rate=1.0, warm_up=0.5, power=1.0), 100)
    assert rates(power, [50, 75]) == pytest.approx([1, 0.5], abs=1e-6)


def test_an_optimizer_takes_them() -> None:
    weight = keras.Variable(1.0)
    optimizer = keras.optimizers.SGD(PowerCosine(0.5, 10))
    optimizer.apply([np.float32(1.0)], [weight])
    assert float(weight) == 0.5
