"""Columns to the bytes of framed tf.Example records, and back, column by column. Any protobuf parser reads them.

Where each value lies is the layout's affair; files are the writer's and the reader's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.records import fixed
from pipelines.records.framing import block_crcs
from pipelines.records.layout import FRAME_TAIL, Columns, Layout, is_fixed, layout
from pipelines.records.loose_decode import decode_loose
from pipelines.records.loose_encode import encode_loose

Array = NDArray[Any]
Bytes = NDArray[np.uint8]


def encode(values: Mapping[str, Any], columns: Columns) -> tuple[Bytes, NDArray[np.int64]]:
    """Framed records, one after the other, and where each begins (rows + 1 offsets).

    `values`: numpy or Arrow arrays, as `intake` says. A missing value is a feature without one, as in tfx-bsl.
    Raises ThawError where a value does not fit its column.
    """
    rows = len(values[columns[0].name])
    if not all(is_fixed(column) for column in columns):
        return encode_loose(values, columns, rows)
    form = layout(columns)
    step = max(fixed.BLOCK_BYTES // form.size, 1)
    filler = fixed.Filler(form, values, rows, step)
    data = np.empty((rows, form.size), np.uint8)
    for start in range(0, rows, step):
        block = filler.fill(slice(start, start + step))
        block[:, -FRAME_TAIL:] = block_crcs(block)[:, None].view(np.uint8)
        data[start : start + step] = block
    return data.reshape(-1), np.arange(rows + 1, dtype=np.int64) * form.size


def decode(data: bytes, columns: Columns) -> dict[str, Array]:
    """The columns of framed records.

    Fixed columns: scalars (rows,), lists (rows, length), strings of dtype S, or objects where one ends in NUL.
    Loose columns: objects (rows,): bytes, numbers, arrays (length,), lists of bytes, None where missing.
    Raises ValueError where the bytes are not whole records of these columns, or a CRC does not match.
    """
    if not all(is_fixed(column) for column in columns):
        return decode_loose(data, columns)
    form = layout(columns)
    if len(data) % form.size:
        raise ValueError(f"records of {form.size} bytes cannot make up {len(data)} bytes")
    records = np.frombuffer(data, np.uint8).reshape(-1, form.size)
    step = max(fixed.BLOCK_BYTES // form.size, 1)
    blocks = [_decode_block(records[at : at + step], form, at) for at in range(0, max(len(records), 1), step)]
    if len(blocks) == 1:
        return blocks[0]
    return {column.name: np.concatenate([block[column.name] for block in blocks]) for column in columns}


def _decode_block(block: Bytes, form: Layout, first: int) -> dict[str, Array]:
    """Values of records (rows, record bytes) of one layout, of which `first` is the first one's number."""
    differs = fixed.misfits(block, form)
    if differs.any():
        raise ValueError(f"record {first + int(differs.argmax())} does not have the layout of its columns")
    differs = np.ascontiguousarray(block[:, -FRAME_TAIL:]).view("<u4")[:, 0] != block_crcs(block)
    if differs.any():
        raise ValueError(f"record {first + int(differs.argmax())} does not match its CRC")
    return fixed.read(block, form)
