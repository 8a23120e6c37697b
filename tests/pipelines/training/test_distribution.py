"""N devices or processes do the arithmetic of one: the same losses and weights but for rounding, and no row lost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import ClassifierOptions
from pipelines.errors import ConfigError
from pipelines.training.class_step import make_step
from pipelines.training.distribution import ALONE, ROWS, Alone, rows_of, summed, whole_batch
from pipelines.training.rendezvous import free_port
from tests.pipelines.training import shared_training

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-m", "tests.pipelines.training.shared_training"]


@contextmanager
def started(backend: str, *calls: tuple[object, ...], **environ: str) -> Iterator[list[subprocess.Popen]]:
    """Processes of the program; none is left behind."""
    # Compiling with care would take longer than all else; and on a busy machine XLA is to wait for its own threads.
    cheap = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    cheap += " --xla_cpu_collective_call_terminate_timeout_seconds=500" * (backend == "jax")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", **environ}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = []
    try:
        for call in calls:
            several = "--xla_force_host_platform_device_count=4 " * (call[0] == "devices")
            given = {**environment, "XLA_FLAGS": several + cheap}
            running.append(subprocess.Popen([*PROGRAM, *map(str, call)], cwd=ROOT, env=given, **pipes))
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def answers(running: Sequence[subprocess.Popen]) -> list[list[dict]]:
    """What each told, in order; where one fails, the last words of all: the first to end is not the first to fail."""
    told = [process.communicate(timeout=540) for process in running]
    assert not any(process.returncode for process in running), "\n".join(said[-2000:] for _, said in told)
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


def assert_equal_but_for_rounding(one: dict, other: dict) -> None:
    for epoch, same in zip(one["epochs"], other["epochs"], strict=True):
        assert set(epoch) == set(same) and len(epoch) > 5
        np.testing.assert_allclose(list(epoch.values()), list(same.values()), rtol=2e-4)
    np.testing.assert_allclose(one["weights"], other["weights"], atol=2e-3)


@pytest.fixture(scope="module")
def alone() -> dict:
    """What one process trains on TensorFlow, here."""
    return shared_training.train(ALONE)


def assert_all_have(expected: dict, found: Sequence[dict]) -> None:
    for other in found:
        assert_equal_but_for_rounding(expected, other)
        # All have the same weights to the bit, hence decide alike.
        assert other["weights"] == found[0]["weights"] and other["epochs"] == found[0]["epochs"]


def test_processes_of_tensorflow_train_what_one_trains(alone) -> None:
    processes, port = int(os.environ.get("THAW_PROCESSES_TESTED", "2")), free_port("127.0.0.1")
    with started("tensorflow", *(("process", port, processes, index) for index in range(processes))) as running:
        found = [told for (told,) in answers(running)]
    assert_all_have(alone, found)


def test_processes_and_devices_of_jax_train_what_one_trains() -> None:
    port = free_port("127.0.0.1")
    with started("jax", ("devices", 4), *(("process", port, 2, index) for index in range(2))) as running:
        (one, of_four), *found = answers(running)
    assert_all_have(one, [told for (told,) in found])
    assert_equal_but_for_rounding(one, of_four)


def test_a_process_that_is_killed_ends_the_others_with_a_message_and_one_that_is_left_goes_on(alone, tmp_path) -> None:
    port = free_port("127.0.0.1")
    calls = [("process", port, 2, index) for index in range(2)]
    environ = {"THAW_TEST_DIE": "1", "THAW_TEST_SAVED": str(tmp_path)}
    with started("tensorflow", *calls, **environ) as (first, second):
        assert second.wait(540) == 9
        died = time.monotonic()
        _, said = first.communicate(timeout=60)
        assert time.monotonic() - died < 20
        assert first.returncode == 1, said[-3000:]
        assert "thaw: process 1 of 2 (127.0.0.1) is lost; nothing half-done was published" in said
    assert any(path.name.startswith("000001-") for path in tmp_path.iterdir())
    # Any number of processes goes on from what several have saved: here one.
    assert_equal_but_for_rounding(alone, shared_training.train(ALONE, str(tmp_path)))


class Faked(Alone):
    """One of several processes, whose words are at hand."""

    def __init__(self, index: int, words: list[np.ndarray]) -> None:
        self.index, self.processes, self.words = index, len(words), words

    def everyones(self, local):
        return np.stack(self.words)


class _Told(Exception):
    pass


class Listening(Faked):
    """Takes down what one process says."""

    def everyones(self, local):
        self.words[self.index] = local
        raise _Told


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_short_batch_is_put_together_without_losing_or_repeating_a_row(data) -> None:
    counts = data.draw(st.lists(st.integers(0, 5), min_size=2, max_size=5).filter(sum))
    rows = sum(counts)
    draw = np.random.default_rng(rows)
    whole = {
        "inputs": {"ids": draw.integers(0, 9, (rows, 3)).astype("int32"), "flag": draw.random(rows) < 0.5},
        "extras": {"label": draw.random(rows).astype("f4"), "user_key": draw.integers(0, 2**62, rows)},
    }
    ends = np.cumsum(counts)
    parts = [
        {side: {name: v[end - count : end] for name, v in some.items()} for side, some in whole.items()}
        for end, count in zip(ends, counts, strict=True)
    ]
    words = [np.empty(0, np.uint8)] * len(counts)
    for index, part in enumerate(parts):
        with pytest.raises(_Told):
            whole_batch(Listening(index, words), part, 5)
    for index, part in enumerate(parts):
        found = whole_batch(Faked(index, words), part, 5)
        for side, some in whole.items():
            for name, values in some.items():
                np.testing.assert_array_equal(found[side][name], values)


def test_sums_are_of_all_processes_and_sizes_of_whole_batches() -> None:
    values = np.array([1.5, 2.0])
    assert summed(ALONE, values) is values
    words = [np.array([1.0, 2.0]).view(np.uint8), np.array([0.25, 4.0]).view(np.uint8)]
    np.testing.assert_array_equal(summed(Faked(0, words), values), [1.25, 6.0])
    assert rows_of({"label": np.zeros(3)}) == 3
    assert rows_of({"label": np.zeros(3), ROWS: np.int64(6)}) == 6


class Two(Alone):
    processes = parts = 2


def test_what_processes_of_a_classifier_cannot_do_is_refused_with_the_way_out() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5, name="drop"), keras.layers.Dense(2)])
    told = (keras.optimizers.SGD(0.1), 0.1, None, Two())
    with pytest.raises(ConfigError, match=r"must not drop anything, drop does: .* or KERAS_BACKEND=jax"):
        make_step(model, ClassifierOptions(), *told)
    with pytest.raises(ConfigError, match=r"got classifier\.minutes 3: their clocks would not agree"):
        make_step(model, ClassifierOptions(minutes=3), *told)
    undropped = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    step = make_step(undropped, ClassifierOptions(), *told)
    with pytest.raises(ConfigError, match=r"`classifier\.batch_size` must be a multiple .* got 5 and 2"):
        step.train(np.zeros((5, 2)), np.zeros(5, int), 0)
