"""TFRecord frames: where each record lies, and its data's masked CRC.

The CRC of a length is the layout's affair, because it is the same for all records of one size.
"""

import struct

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipelines.records.layout import FRAME_HEAD, FRAME_TAIL

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Crcs = NDArray[np.uint32]


def frames(data: bytes) -> tuple[Ints, Ints]:
    """Start and size of each framed record. Raises ValueError where the last one is cut off."""
    starts, place = [0], 0
    while place + FRAME_HEAD <= len(data):
        place += struct.unpack_from("<Q", data, place)[0] + FRAME_HEAD + FRAME_TAIL
        starts.append(place)
    if place != len(data):
        raise ValueError(f"record {len(starts) - 1} is cut off")
    ends = np.array(starts, np.int64)
    return ends[:-1], np.diff(ends)


def crcs(data: bytes, starts: Ints, ends: Ints) -> Crcs:
    """The masked CRC of the data from each start to its end."""
    value, spans = google_crc32c.value, zip(starts.tolist(), ends.tolist(), strict=True)
    return _masked(np.fromiter([value(data[start:end]) for start, end in spans], "<u4", len(starts)))


def block_crcs(block: Bytes) -> Crcs:
    """The masked CRC of each framed record of one size: (rows, bytes)."""
    rows, size = block.shape
    if not rows:
        return np.empty(0, np.uint32)
    data = np.ndarray((rows,), f"V{size - FRAME_HEAD - FRAME_TAIL}", block, FRAME_HEAD, (size,))
    return _masked(np.fromiter(map(google_crc32c.value, data.tolist()), "<u4", rows))


def _masked(crc: Crcs) -> Crcs:
    """Rotated and shifted as TFRecord stores them."""
    return (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(0xA282EAD8)
