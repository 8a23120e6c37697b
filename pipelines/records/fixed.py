"""Fixed columns in a block of records: the template's constant bytes, then the values, slot by slot; and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.records.intake import fixed_bytes
from pipelines.records.layout import Layout, Slot, unit
from pipelines.records.numbers import from_bytes

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

BLOCK_BYTES = 1 << 20
"""Records made at a time have about as many bytes: few enough to stay in the processor's cache."""


class Filler:
    """Makes what `form` describes, records or a part of them, for at most `step` of `rows` rows at a time.

    `values`: as `wire.encode` takes them. Raises ThawError where some do not fit their column.
    """

    def __init__(self, form: Layout, values: Mapping[str, Any], rows: int, step: int) -> None:
        self._block = np.tile(form.template, (min(step, max(rows, 1)), 1))
        self._slots = [
            (_cells(self._block, slot), fixed_bytes(values[slot.column.name], slot.column, rows).view(f"V{slot.size}"))
            for slot in form.slots
        ]

    def fill(self, rows: slice) -> Bytes:
        """The block of some rows: (rows, bytes). The next call overwrites it."""
        count = 0
        for cells, values in self._slots:
            some = values[rows, 0]
            count = len(some)
            cells[:count] = some
        return self._block[:count]


def read(block: Bytes, form: Layout) -> dict[str, Array]:
    """The values of a block: numbers (rows,) or (rows, length), strings (rows,).

    Strings are of dtype S, or objects where one ends in NUL, which S cannot hold.
    """
    return {slot.column.name: _read_slot(block, slot) for slot in form.slots}


def misfits(block: Bytes, form: Layout) -> NDArray[np.bool_]:
    """Where rows differ from what is the same in every record: (rows,)."""
    found: NDArray[np.bool_] = ((block != form.template) & form.constant).any(axis=1)
    return found


def _cells(block: Bytes, slot: Slot) -> NDArray[np.void]:
    """The slot of every row, each one element: numpy copies it as a whole, where bytes would be a loop."""
    return np.ndarray((len(block),), f"V{slot.size}", block, slot.start, (block.shape[1],))


def _read_slot(block: Bytes, slot: Slot) -> Array:
    column, rows = slot.column, len(block)
    raw = np.ascontiguousarray(block[:, slot.start : slot.start + slot.size])
    if column.type == "string":
        texts = raw.view(f"S{slot.size}")[:, 0]
        if raw[:, -1:].all():
            return texts
        held = np.empty(rows, object)
        held[:] = [text.tobytes() for text in raw]
        return held
    values = from_bytes(raw.reshape(rows, max(column.length, 1), unit(column)), column)
    return values if column.type.startswith("list") else values[:, 0]
