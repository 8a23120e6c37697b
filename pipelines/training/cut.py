"""Serialized records of one byte layout to tensors, by cutting: about half the work of `tf.io.parse_example`.

Where every column is fixed, each record of a dataset has its values at the same places (`records.layout`). All other
bytes are compared with what they must be, so a record of another layout is an error and never a wrong value.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.records.layout import FRAME_HEAD, FRAME_TAIL, Columns, Slot, is_fixed, layout, unit

GOES_ON = 0x80
"""The bit of a varint's byte that says that another one follows."""


def can_cut(columns: Columns) -> bool:
    """Whether records of these columns have one byte layout."""
    return all(is_fixed(column) for column in columns)


def cut(batch: Any, columns: Columns, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """(n,) serialized records -> what `parse_example` reads: numbers (n,), lists (n, length), strings (n,).

    Raises InvalidArgumentError where a record does not have the layout of its columns.
    """
    form = layout(columns)
    size = form.size - FRAME_HEAD - FRAME_TAIL
    expected, counts = form.template.copy(), np.where(form.constant, 0xFF, 0).astype(np.uint8)
    for slot in form.slots:
        if _is_int(slot):
            # Padded varints: all bytes but the last one say that they go on.
            places = slot.start + np.arange(slot.size)
            last = np.arange(slot.size) % slot.column.width == slot.column.width - 1
            expected[places], counts[places] = np.where(last, 0, GOES_ON), GOES_ON
    fits = tf.debugging.assert_equal(tf.strings.length(batch), size, "records of another size than their columns'")
    with tf.control_dependencies([fits]):
        raw = tf.reshape(tf.io.decode_raw(batch, tf.uint8), (-1, size))
    differ = tf.bitwise.bitwise_and(
        tf.bitwise.bitwise_xor(raw, expected[FRAME_HEAD:-FRAME_TAIL]), counts[FRAME_HEAD:-FRAME_TAIL]
    )
    same = tf.debugging.assert_equal(tf.reduce_max(differ), tf.constant(0, tf.uint8), "records of another layout")
    with tf.control_dependencies([same]):
        raw = tf.identity(raw)
    return {slot.column.name: _values(batch, raw, slot) for slot in form.slots if slot.column.name not in leave_out}


def _values(batch: Any, raw: Any, slot: Slot) -> Any:
    start, column = slot.start - FRAME_HEAD, slot.column
    if column.type == "string":
        return tf.strings.substr(batch, start, slot.size)
    length = max(column.length, 1)
    cells = tf.reshape(raw[:, start : start + slot.size], (-1, length, unit(column)))
    if _is_int(slot):
        digits = tf.cast(tf.bitwise.bitwise_and(cells, tf.constant(GOES_ON - 1, tf.uint8)), tf.int64)
        # Of ten bytes the last holds the sign alone; its other bits fall off at the left.
        shifts = np.arange(column.width, dtype=np.int64) * 7
        values = tf.reduce_sum(tf.bitwise.left_shift(digits, shifts), axis=2)
    else:
        values = tf.bitcast(cells, tf.float32)
    return values if column.type.startswith("list") else values[:, 0]


def _is_int(slot: Slot) -> bool:
    return slot.column.type.endswith(("int64", "int64>"))
