"""Columns to the bytes of framed tf.Example records, and back, column by column. Any protobuf parser reads them.

Where each value lies is the layout's affair; files are the writer's and the reader's.
"""

import struct
from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ThawError
from pipelines.records.layout import FRAME_HEAD, FRAME_TAIL, Layout, Slot, layout, varies
from schemas.manifest import ColumnEntry

Columns = tuple[ColumnEntry, ...]
Array = NDArray[Any]
Bytes = NDArray[np.uint8]

_BLOCK_ROWS = 2048
"""Rows filled at a time: few enough to stay in the processor's cache."""


def encode(values: Mapping[str, Array], columns: Columns) -> tuple[Bytes, NDArray[np.int64]]:
    """Framed records, one after the other, and where each begins (rows + 1 offsets).

    `values`: scalars (rows,) or (rows, 1), lists (rows, length), strings of dtype S or object (bytes).
    Raises ThawError where a value does not fit its column.
    """
    rows = len(values[columns[0].name])
    varying = next((column.name for column in columns if varies(column)), None)
    if varying is None:
        block = _encode_block(values, layout(columns), rows)
        return block.reshape(-1), np.arange(rows + 1, dtype=np.int64) * block.shape[1]
    lengths = np.array([len(value) for value in values[varying]], np.int64)
    forms = {length: layout(columns, int(length)) for length in np.unique(lengths)}
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum([len(forms[length].template) for length in lengths], out=offsets[1:])
    data = np.empty(int(offsets[-1]), np.uint8)
    for length, form in forms.items():
        chosen = np.flatnonzero(lengths == length)
        block = _encode_block({name: array[chosen] for name, array in values.items()}, form, len(chosen))
        data[offsets[chosen][:, None] + np.arange(block.shape[1])] = block
    return data, offsets


def decode(data: bytes, columns: Columns) -> dict[str, Array]:
    """The columns of framed records: scalars (rows,), lists (rows, length), strings of dtype S or object (bytes).

    Raises ValueError where the bytes are not whole records of these columns, or a CRC does not match.
    """
    flat = np.frombuffer(data, np.uint8)
    if not any(varies(column) for column in columns):
        form = layout(columns)
        if len(flat) % len(form.template):
            raise ValueError(f"records of {len(form.template)} bytes cannot make up {len(flat)} bytes")
        return _decode_block(flat.reshape(-1, len(form.template)), form)
    starts, sizes = _frames(data)
    found: list[tuple[Array, dict[str, Array]]] = []
    for size in np.unique(sizes) if len(sizes) else [len(layout(columns).template)]:
        chosen = np.flatnonzero(sizes == size)
        block = flat[starts[chosen][:, None] + np.arange(size)]
        found.append((chosen, _decode_block(block, _layout_of_size(columns, int(size)))))
    back = np.argsort(np.concatenate([chosen for chosen, _ in found]))
    return {c.name: np.concatenate([values[c.name] for _, values in found])[back] for c in columns}


def _encode_block(values: Mapping[str, Array], form: Layout, rows: int) -> Bytes:
    """Records of one layout: (rows, record bytes)."""
    out = np.empty((rows, len(form.template)), np.uint8)
    for start in range(0, rows, _BLOCK_ROWS):
        block = out[start : start + _BLOCK_ROWS]
        block[:] = form.template
        for slot in form.slots:
            _write(block, slot, values[slot.column.name][start : start + _BLOCK_ROWS])
        block[:, -FRAME_TAIL:] = _crcs(block)[:, None].view(np.uint8)
    return out


def _decode_block(records: Bytes, form: Layout) -> dict[str, Array]:
    """Values of records (rows, record bytes) of one layout."""
    pieces: dict[str, list[Array]] = {slot.column.name: [] for slot in form.slots}
    for start in range(0, max(len(records), 1), _BLOCK_ROWS):
        block = records[start : start + _BLOCK_ROWS]
        differs = ((block != form.template) & form.constant).any(axis=1)
        if differs.any():
            raise ValueError(f"record {start + int(differs.argmax())} does not have the layout of its columns")
        differs = np.ascontiguousarray(block[:, -FRAME_TAIL:]).view("<u4")[:, 0] != _crcs(block)
        if differs.any():
            raise ValueError(f"record {start + int(differs.argmax())} does not match its CRC")
        for slot in form.slots:
            pieces[slot.column.name].append(_read(block, slot))
    return {name: np.concatenate(some) for name, some in pieces.items()}


def _crcs(block: Bytes) -> NDArray[np.uint32]:
    """The masked CRC of each record's data."""
    value, size, data = google_crc32c.value, block.shape[1], block.tobytes()
    starts = range(FRAME_HEAD, len(data), size)
    span = size - FRAME_HEAD - FRAME_TAIL
    crc = np.array([value(data[start : start + span]) for start in starts], "<u4")
    return (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(0xA282EAD8)


def _write(block: Bytes, slot: Slot, values: Array) -> None:
    """Fill a slot of every record of the block."""
    column, into = slot.column, block[:, slot.start : slot.start + slot.size]
    if column.type == "string":
        texts = values.tolist()
        if any(len(text) != slot.size for text in texts):
            raise ThawError(f"`{column.name}` must have {slot.size} bytes in every row, some have not")
        into[:] = np.frombuffer(b"".join(texts), np.uint8).reshape(into.shape)
        return
    if values.size != len(block) * slot.values:
        raise ThawError(f"`{column.name}` must have {slot.values} values in a row, got shape {values.shape}")
    if "float32" in column.type:
        into[:] = np.ascontiguousarray(values, "<f4").reshape(len(block), -1).view(np.uint8)
        return
    low, high = int(values.min()), int(values.max())
    if column.width < 10 and (low < 0 or high >> 7 * column.width):
        raise ThawError(f"`{column.name}` must be from 0 to {(1 << 7 * column.width) - 1}, got {low} to {high}")
    bits = values.reshape(len(block), slot.values).astype(np.int64, copy=False).view(np.uint64)
    digits = into.reshape(len(block), slot.values, column.width)
    for place in range(column.width):
        more = np.uint8(0x80 if place < column.width - 1 else 0)
        digits[:, :, place] = (bits >> np.uint64(7 * place)).astype(np.uint8) & np.uint8(0x7F) | more


def _read(block: Bytes, slot: Slot) -> Array:
    """The values of a slot of every record of the block."""
    column, rows = slot.column, len(block)
    raw = np.ascontiguousarray(block[:, slot.start : slot.start + slot.size])
    if varies(column):
        texts = np.empty(rows, object)
        texts[:] = [text.tobytes() for text in raw]
        return texts
    if column.type == "string":
        return raw.view(f"S{slot.size}")[:, 0]
    if "float32" in column.type:
        values: Array = raw.view("<f4")
    else:
        digits = raw.reshape(rows, slot.values, column.width) & np.uint8(0x7F)
        bits = np.zeros((rows, slot.values), np.uint64)
        for place in range(column.width):
            bits |= digits[:, :, place].astype(np.uint64) << np.uint64(7 * place)
        values = bits.view(np.int64)
    return values if column.type.startswith("list") else values[:, 0]


def _frames(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and size of each framed record. Raises ValueError where the last one is cut off."""
    starts, place = [0], 0
    while place + FRAME_HEAD <= len(data):
        place += struct.unpack_from("<Q", data, place)[0] + FRAME_HEAD + FRAME_TAIL
        starts.append(place)
    if place != len(data):
        raise ValueError(f"record {len(starts) - 1} is cut off")
    ends = np.array(starts, np.int64)
    return ends[:-1], np.diff(ends)


def _layout_of_size(columns: Columns, size: int) -> Layout:
    """The layout whose records have `size` bytes. Raises ValueError where no string's length gives that size."""
    most = max(size - len(layout(columns).template), 0)
    for length in range(most, max(most - 32, -1), -1):
        if len(layout(columns, length).template) == size:
            return layout(columns, length)
    raise ValueError(f"a record of {size} bytes does not have the layout of its columns")
