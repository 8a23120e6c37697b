"""Numbers to the bytes that a record holds them in, and back: float32, and int64 as varints of one width."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.manifest import ColumnEntry

Array = NDArray[Any]
Bytes = NDArray[np.uint8]


def to_bytes(values: Array, column: ColumnEntry) -> Bytes:
    """The bytes of float32 or int64 values (values,): (values, bytes of one)."""
    if "float32" in column.type:
        return np.ascontiguousarray(values, "<f4").view(np.uint8).reshape(-1, 4)
    # Varints of up to four bytes fit in 32 bits, and numpy shifts those twice as fast.
    bits = values.astype(np.uint32) if column.width <= 4 else values.view(np.uint64)
    digits = np.empty((len(values), column.width), np.uint8)
    for place in range(column.width):
        digit = (bits >> bits.dtype.type(7 * place)).astype(np.uint8) & np.uint8(0x7F)
        digits[:, place] = digit | np.uint8(0x80) if place < column.width - 1 else digit
    return digits


def from_bytes(raw: Bytes, column: ColumnEntry) -> Array:
    """The float32 or int64 values (…,) of bytes (…, bytes of one)."""
    return raw.view("<f4")[..., 0] if "float32" in column.type else from_varints(raw)


def from_varints(digits: Bytes) -> NDArray[np.int64]:
    """The int64 (…,) of varints (…, width).

    Seven bits of each byte are pushed together two by two: neighbouring bytes, then pairs of bytes, then fours.
    """
    width, held = digits.shape[-1], min(digits.shape[-1], 8)
    size = 1 << (held - 1).bit_length()
    padded = np.zeros((*digits.shape[:-1], size), np.uint8)
    padded[..., :held] = digits[..., :held]
    number = np.dtype(f"<u{size}")
    bits = padded.view(number)[..., 0] & number.type(int.from_bytes(b"\x7f" * size, "little"))
    for pair in (2, 4, 8):
        if pair > size:
            break
        span, kept = 4 * pair, 7 * pair // 2
        low = sum((1 << kept) - 1 << place for place in range(0, 8 * size, 2 * span))
        bits = bits & number.type(low) | bits >> number.type(span - kept) & number.type(low << kept)
    whole = bits.astype(np.uint64)
    for place in range(held, width):
        whole |= (digits[..., place] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
    found: NDArray[np.int64] = whole.view(np.int64)
    return found
