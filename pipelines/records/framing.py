"""TFRecord frames: where each record lies, its data's masked CRC, and framed records as a column of Arrow's.

The CRC of a length is the layout's affair, because it is the same for all records of one size.
"""

import struct

import google_crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.errors import ConfigError
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


def framed(data: Bytes, offsets: Ints) -> pa.Array:
    """Records and where each begins (rows + 1 offsets) as a binary array, without a copy of the records.

    Raises ConfigError from 2 GiB on: what such an array's offsets cannot reach.
    """
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ConfigError(
            f"records that are encoded at a time must stay under 2 GiB, got {offsets[-1]} bytes; lower "
            "images.block_images, or for the records of a log set records.writer to spark and lower "
            "spark.sql.execution.arrow.maxRecordsPerBatch"
        )
    places = pa.py_buffer(offsets.astype(np.int32))
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, [None, places, pa.py_buffer(data)])


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
