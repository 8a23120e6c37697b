"""Draws for the rows of a batch, also where a process has a part of the rows alone: those that the whole would get.

So what training drops does not depend on how many processes share a batch. Where one program sees the whole batch, as
on JAX, nothing is needed for it.
"""

from contextvars import ContextVar
from typing import Any, ClassVar

import keras


class Part:
    """Within, rows are the part `index` of `of` equal parts of a batch."""

    current: ClassVar[ContextVar[Any]] = ContextVar("part", default=None)

    def __init__(self, index: int, of: int) -> None:
        self.index, self.of = index, of

    def __enter__(self) -> "Part":
        self._token = Part.current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        Part.current.reset(self._token)


def uniform_rows(rows: Any, width: int, seed: Any) -> Any:
    """(rows, width) from 0 to 1, of a seed generator whose state moves as for the whole batch."""
    part = Part.current.get()
    if part is None or part.of == 1:
        return keras.random.uniform((rows, width), seed=seed)
    whole = keras.random.uniform((rows * part.of, width), seed=seed)
    return whole[part.index * rows : (part.index + 1) * rows]
