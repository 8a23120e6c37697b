"""Examples to records, a batch at a time: raw values through the encoder, the wire format, and the place in the order.

Arrow in, Arrow out, no engine. Fitting the encoder is left to `content`, files to the writers.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.content.encoder import Encoder
from pipelines.errors import ThawError
from pipelines.records.framing import framed
from pipelines.records.order import order_key, shard_of, signed
from pipelines.records.wire import encode
from schemas.examples import SPLITS
from schemas.fitted import EncoderState
from schemas.records import catalogue_columns, record_columns

PLACED = pa.schema(
    [
        ("shard", pa.int32()),
        ("order_key", pa.int64()),
        ("example_id", pa.string()),
        ("event_time", pa.int64()),
        ("label", pa.float32()),
        ("record", pa.binary()),
    ]
)
"""A record and its place: `shard` counts over all splits, `order_key` is signed, `record` is framed."""

EncodeRows = Callable[[pa.RecordBatch, Encoder, int, int], pa.RecordBatch]
"""(rows, encoder, seed, num_shards) -> PLACED."""


def example_columns(state: EncoderState) -> list[str]:
    """The columns of the examples that records are made of."""
    raw = sorted({name for spec in state.inputs for name in spec.columns})
    return ["example_id", "user_id", "item_id", "event_time", "label", "weight", "split", *raw]


def catalogue_source_columns(state: EncoderState) -> list[str]:
    """The columns of the catalogue that its records are made of."""
    raw = sorted({name for spec in state.inputs if spec.side == "item" for name in spec.columns})
    return ["as_of", "known_by", "item_id", "exists_from", *raw]


def encode_catalogue(batch: pa.RecordBatch, encoder: Encoder, seed: int, num_shards: int) -> pa.RecordBatch:
    """The PLACED rows of a batch of the catalogue, whose shards are numbered behind those of all splits.

    An example_id here is a hash of item and clock; the label, which nothing has, is 0.
    """
    names = zip(*(batch.column(name).to_pylist() for name in ("as_of", "known_by", "item_id")), strict=True)
    ids = np.array([hashlib.blake2b("/".join(map(str, n)).encode(), digest_size=16).hexdigest() for n in names], "S32")
    times = batch.column("known_by")
    values: dict[str, NDArray[Any]] = {
        "example_id": ids,
        "event_time": times.to_numpy(zero_copy_only=False),
        "item_key": id_keys(batch.column("item_id"), seed, "item"),
        "exists_from": batch.column("exists_from").to_numpy(zero_copy_only=False),
        **encoder.encode(batch, "item"),
    }
    data, offsets = encode(values, catalogue_columns(encoder.state.inputs))
    keys = order_key(ids, seed)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(len(SPLITS) * num_shards + shard_of(keys, num_shards), pa.int32()),
            pa.array(signed(keys)),
            pa.array(ids.astype(str)),
            times,
            pa.array(np.zeros(len(ids), np.float32)),
            framed(data, offsets),
        ],
        schema=PLACED,
    )


def encode_batch(batch: pa.RecordBatch, encoder: Encoder, seed: int, num_shards: int) -> pa.RecordBatch:
    """The PLACED rows of a batch of examples. Shard `s` of the i-th split has number i·num_shards + s."""
    ids = np.array(batch.column("example_id").to_pylist(), dtype="S")
    values: dict[str, NDArray[Any]] = {
        "example_id": ids,
        "user_key": id_keys(batch.column("user_id"), seed, "user"),
        "item_key": id_keys(batch.column("item_id"), seed, "item"),
        **{name: batch.column(name).to_numpy(zero_copy_only=False) for name in ("label", "weight", "event_time")},
        **encoder.encode(batch, "user"),
        **encoder.encode(batch, "item"),
    }
    data, offsets = encode(values, record_columns(encoder.state.inputs))
    keys = order_key(ids, seed)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(_split_numbers(batch.column("split")) * num_shards + shard_of(keys, num_shards), pa.int32()),
            pa.array(signed(keys)),
            batch.column("example_id"),
            batch.column("event_time"),
            batch.column("label"),
            framed(data, offsets),
        ],
        schema=PLACED,
    )


def id_keys(ids: pa.Array, seed: int, role: str) -> NDArray[np.int64]:
    """63-bit keyed hash of each user or item id; `role` keeps a user and an item of one id apart."""
    distinct = ids.dictionary_encode()
    key = hashlib.blake2b(f"{role}/{seed}".encode(), digest_size=32).digest()
    hashes = [_id_key(value, key) for value in distinct.dictionary.to_pylist()]
    keys: NDArray[np.int64] = np.array(hashes, np.int64)[distinct.indices.to_numpy(zero_copy_only=False)]
    return keys


@lru_cache(maxsize=1 << 18)
def _id_key(value: str, key: bytes) -> int:
    """The same users and items come again in batch after batch."""
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8, key=key).digest()) >> 1


def _split_numbers(splits: pa.Array) -> NDArray[np.int64]:
    """The place of each row's split in SPLITS."""
    names: Sequence[str] = splits.to_pylist()
    try:
        return np.array([SPLITS.index(name) for name in names], np.int64)
    except ValueError:
        raise ThawError(f"an example's split must be among {SPLITS}, got {sorted(set(names))}") from None
