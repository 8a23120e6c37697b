"""How a backend computes while training: the same every time, and in what precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from pipelines.models.blocks import derived_seed


def make_deterministic(seed: int) -> None:
    """Seed every generator and ask the backend for the same result every time. Holds for the whole process."""
    keras.utils.set_random_seed(derived_seed(seed, "fit"))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


@contextmanager
def precision(model: Any, policy: str) -> Iterator[None]:
    """Within, the model's layers compute in that precision; its weights are float32 all along."""
    layers = [layer for layer in model._flatten_layers() if layer.dtype_policy.name != policy]
    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = policy
    try:
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.dtype_policy = old
