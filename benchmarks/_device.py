"""One accelerator as either backend sees it: arrays on it, an end to wait for, and what it can do at best, measured.

The ceilings are a square matrix product, 2·n³ operations, and a triad a + s·b (McCalpin's STREAM) over arrays far
larger than any cache, counting the bytes read and those written; both of random numbers, the median of rounds.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

PRECISIONS = {"float32": "float32", "tf32": "float32", "bfloat16": "mixed_bfloat16"}
"""What matrix products compute in -> the policy of layers. tf32: float32 whose products keep ten bits of mantissa."""


@dataclass(frozen=True)
class Device:
    """Where a backend computes."""

    name: str
    put: Callable[[Any], Any]
    """Nested dicts of numpy arrays -> the same on the device."""
    wait: Callable[[Any], None]
    """Until what was asked for is done."""
    compiled: Callable[[Any], Any]
    """A function of arrays -> one program."""


def open_device(precision: str) -> Device:
    """The first GPU, or with DEVICE=cpu the processor, set to multiply in `precision`. SystemExit without a GPU."""
    import keras

    return _jax(precision) if keras.backend.backend() == "jax" else _tensorflow(precision)


def _jax(precision: str) -> Device:
    import jax

    if os.environ.get("DEVICE") == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif jax.default_backend() != "gpu":
        raise SystemExit(_none("JAX", "jax[cuda12]"))
    # In float32 JAX multiplies by TF32 wherever the GPU can, unless it is told what to keep.
    kept = {"float32": "highest", "tf32": "tensorfloat32"}.get(precision, "default")
    jax.config.update("jax_default_matmul_precision", kept)
    return Device(
        f"{jax.devices()[0].device_kind}, JAX {jax.__version__}", jax.device_put, jax.block_until_ready, jax.jit
    )


def _tensorflow(precision: str) -> Device:
    import tensorflow as tf

    place = "/CPU:0"
    if os.environ.get("DEVICE") == "cpu":
        tf.config.set_visible_devices([], "GPU")
        name = "cpu"
    elif gpus := tf.config.list_physical_devices("GPU"):
        place, name = "/GPU:0", tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    else:
        raise SystemExit(_none("TensorFlow", "tensorflow[and-cuda]"))
    tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")
    if os.environ.get("XLA") == "auto":
        tf.config.optimizer.set_jit("autoclustering")

    def put(arrays: Any) -> Any:
        with tf.device(place):
            return tf.nest.map_structure(lambda values: tf.identity(tf.constant(values)), arrays)

    def wait(_: Any) -> None:
        tf.test.experimental.sync_devices()

    return Device(f"{name}, TensorFlow {tf.__version__}", put, wait, tf.function)


def _none(backend: str, extra: str) -> str:
    return f"{backend} must see a GPU, it sees none; install {extra} on a machine with one, or set DEVICE=cpu"


def ceilings(device: Device, precision: str, side: int, megabytes: int, rounds: int) -> tuple[float, float]:
    """(operations a second of a product of two (side, side) matrices, bytes a second of a triad)."""
    from keras import ops

    draw = np.random.default_rng(1)
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    cast = device.compiled(lambda x: ops.cast(x, dtype))
    a, b = (cast(device.put(draw.normal(size=(side, side)).astype("f4"))) for _ in range(2))
    x, y = (device.put(draw.normal(size=megabytes << 18).astype("f4")) for _ in range(2))
    product, triad = device.compiled(ops.matmul), device.compiled(lambda x, y: x + 1.5 * y)
    multiplied = seconds_of(lambda: product(a, b), device, rounds)
    moved = seconds_of(lambda: triad(x, y), device, rounds)
    return 2 * side**3 / multiplied, 3 * (megabytes << 20) / moved


def seconds_of(call: Callable[[], Any], device: Device, rounds: int, at_least_s: float = 0.2) -> float:
    """Seconds that a call takes when many follow one another: the median over rounds, after a warm-up."""
    device.wait(call())
    started = time.perf_counter()
    device.wait(call())
    times = max(int(at_least_s / max(time.perf_counter() - started, 1e-6)), 1)
    return statistics.median(_round(call, device, times) for _ in range(rounds)) / times


def _round(call: Callable[[], Any], device: Device, times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        said = call()
    device.wait(said)
    return time.perf_counter() - started
