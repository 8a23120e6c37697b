"""The towers that learn `_clicks`, and what a training step of them needs at least, in operations and in bytes."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks._clicks import ITEM_SIZES, USER_SIZES

WIDTH, UNITS, TOWER = 16, (256, 128), (128, 64)
MODEL = {"content_units": UNITS, "preference_units": UNITS, "tower_units": TOWER}


def layer_shapes() -> list[tuple[int, int, bool]]:
    """(in, out, whether its input has a gradient) of each dense layer of both towers."""
    found = []
    for categories, numbers in ((len(USER_SIZES), 0), (len(ITEM_SIZES), 32)):
        for widths, learned in (
            ((categories * WIDTH + 2 * numbers, *UNITS), True),
            ((2 * 16, *UNITS), False),
            ((2 * UNITS[-1] + 1, *TOWER), True),
        ):
            found += [(into, out, learned or depth > 0) for depth, (into, out) in enumerate(pairwise(widths))]
    return found


def step_operations(batch: int) -> int:
    """Floating-point operations of the layers' matrix products alone: x·w, xᵀ·g and, where it is needed, g·wᵀ."""
    return sum(2 * batch * into * out * (3 if learned else 2) for into, out, learned in layer_shapes())


def step_bytes(batch: int, size: int) -> int:
    """The fewest bytes that a step moves, values of layers having `size` bytes.

    Each product reads its operands and writes its result once; Adam reads four numbers a weight and writes three; a row
    of an embedding table is read, handed on, has a gradient, and is read and written by its optimizer.
    """
    moved = 0
    for into, out, learned in layer_shapes():
        moved += size * (3 if learned else 2) * (batch * (into + out) + into * out) + 7 * 4 * into * out
    return moved + batch * (len(USER_SIZES) + len(ITEM_SIZES)) * WIDTH * 4 * 5


def products(batch: int, dtype: str = "float32") -> Callable[[], Any]:
    """All matrix products of a step, compiled: of each layer x·w, xᵀ·g and, where it is needed, g·wᵀ."""
    from keras import backend, ops

    draw, shapes = np.random.default_rng(0), layer_shapes()
    x, w, g = (
        [ops.convert_to_tensor(draw.normal(size=size).astype("f4"), dtype) for size in sizes]
        for sizes in (
            [(batch, into) for into, _, _ in shapes],
            [(into, out) for into, out, _ in shapes],
            [(batch, out) for _, out, _ in shapes],
        )
    )
    needed = [learned for _, _, learned in shapes]

    if backend.backend() == "jax":
        import jax

        def step(x: Any, w: Any, g: Any) -> Any:
            back = [b @ a.T for a, b, wanted in zip(w, g, needed, strict=True) if wanted]
            return [a @ b for a, b in zip(x, w, strict=True)], back, [a.T @ b for a, b in zip(x, g, strict=True)]

        compiled = jax.jit(step)
        return lambda: jax.block_until_ready(compiled(x, w, g))
    import tensorflow as tf

    def graph(x: Any, w: Any, g: Any) -> Any:
        back = [tf.matmul(b, a, transpose_b=True) for a, b, wanted in zip(w, g, needed, strict=True) if wanted]
        forward = [tf.matmul(a, b) for a, b in zip(x, w, strict=True)]
        return forward, back, [tf.matmul(a, b, transpose_a=True) for a, b in zip(x, g, strict=True)]

    called = tf.function(graph)
    return lambda: called(x, w, g)
