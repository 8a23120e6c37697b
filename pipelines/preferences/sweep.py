"""Events and moments of a key brought together and swept as arrays. [spark around numpy]

Spark brings the rows of a key together and sorts them by time; a task holds so many rows and no more. A key with more
is swept piece by piece, and what later moments can still see is carried on: events that are in a window or have not
come into sight, the latest ones, and for the rest their sums.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.preferences.clock import CLOCK
from pipelines.preferences.windows import Bools, Events, Ints, Queries
from pipelines.spark import map_batches
from schemas.columns import TIME_MIN_US

ROWS_AT_A_TIME = 1 << 20
"""Rows that a task holds, about: events and moments together, whole keys where they are smaller."""
_TICK_US = 2_000_000
"""Rows are sorted by time in ticks: so many that two centuries have fewer than 2^32 of them."""
_BLOCK = 65_536
EVENT = "_event_"
"""Begins the names of columns that belong to the event of a row."""


class Own(NamedTuple):
    """The columns of an event's key and times, null in a row that is no event."""

    key: str
    event_time: str
    available_time: str


class Block(NamedTuple):
    """Events of some keys, whole or carried on from earlier."""

    events: Events
    columns: pa.StructArray
    """What `events` was given besides key and times, (n,)."""
    before: Ints
    """(keys, sums): what is no more among the events but was in sight of every later moment."""


class Sweeper(Protocol):
    """What is made of the events of a key."""

    sums: int
    """How many sums have no end, and so outlast their events."""

    def compute(self, block: Block, queries: Queries) -> list[pa.Array]:
        """The added columns, a row per query."""

    def outlasting(self, block: Block, until: int) -> tuple[Bools, Ints]:
        """For moments from `until` on (microseconds): events that have to be kept (n,), and the others' sums, added to
        those before them (keys, sums).
        """


def sweep(
    rows: DataFrame,
    events: DataFrame | None,
    *,
    key: str,
    added: T.StructType,
    sweeper: Sweeper,
    clock: tuple[str, str] = CLOCK,
) -> DataFrame:
    """`rows` and the columns `added`, made of the events of the same `key` that each row's clock sees.

    `rows` has `key` and the columns of its `clock`, as_of and known_by >= as_of; events have `key`, event_time,
    available_time and what the sweeper needs. Without `events` each row is an event as well, with as_of <= event_time,
    and what the sweeper needs is in columns that begin with EVENT and are not given back. A row whose key is null sees
    nothing.
    """
    # Nulls would all have one hash.
    group = F.when(F.col(key).isNull(), F.hash(clock[0])).otherwise(F.hash(key))
    asked = rows.withColumn("_order", _order(group, F.col(clock[0])))
    if events is None:
        both, own = asked, Own(key, "event_time", "available_time")
    else:
        own = Own("_key", "_happened", "_arrived")
        rest = [name for name in events.columns if name not in (key, "event_time", "available_time")]
        happened = events.where(F.col(key).isNotNull()).select(
            _order(F.hash(key), F.col("event_time")).alias("_order"),
            F.col(key).alias(own.key),
            F.col("event_time").alias(own.event_time),
            F.col("available_time").alias(own.available_time),
            *(F.col(name).alias(EVENT + name) for name in rest),
        )
        both = happened.unionByName(asked.withColumn(own.key, F.col(key)), allowMissingColumns=True)
    partitions = int(rows.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    placed = both.repartition(partitions, F.shiftright("_order", 32)).sortWithinPartitions("_order")
    # Nullable all: Arrow does not say what may be missing.
    given = [T.StructField(f.name, f.dataType) for f in rows.schema.fields if not f.name.startswith(EVENT)]
    names = [field.name for field in given]

    def sweep_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return sweep_sorted(batches, own, clock, names, added.names, sweeper)

    return map_batches(placed, sweep_partition, T.StructType([*given, *added.fields]))


def _order(group: Column, time: Column) -> Column:
    """The group's 32 bits, then the time in ticks: one integer, which Spark sorts by radix."""
    ticks = F.floor((time - F.lit(TIME_MIN_US)) / F.lit(_TICK_US)).cast("bigint")
    within = F.least(F.greatest(ticks, F.lit(0)), F.lit(2**32 - 1))
    return F.shiftleft(group.cast("bigint"), 32).bitwiseOR(within)


def sweep_sorted(
    batches: Iterable[pa.RecordBatch],
    own: Own,
    clock: tuple[str, str],
    rows: Sequence[str],
    added: Sequence[str],
    sweeper: Sweeper,
    at_a_time: int = ROWS_AT_A_TIME,
) -> Iterator[pa.RecordBatch]:
    """Events and rows of many groups, sorted by `_order`: as many groups at a time as fit, a larger one in pieces.

    Gives back the columns `rows` and `added` of the rows that ask, those with a clock.
    """
    held: list[pa.RecordBatch] = []
    carried: _Carried | None = None
    for batch in batches:
        held.append(batch)
        if sum(piece.num_rows for piece in held) < at_a_time:
            continue
        table = pa.Table.from_batches(held)
        order = table.column("_order").to_numpy()
        cut = int(np.searchsorted(order, (order[-1] >> 32) << 32))
        is_large = cut == 0
        if is_large:
            # Whole ticks only: what comes after them is as of `until` or later.
            cut = int(np.searchsorted(order, order[-1]))
        if cut == 0:
            continue
        piece = _Piece(table.slice(0, cut), own, clock, carried, sweeper)
        yield from piece.swept(rows, added)
        until = (int(order[-1]) & 0xFFFFFFFF) * _TICK_US + TIME_MIN_US
        carried = piece.carried(until) if is_large else None
        held = table.slice(cut).to_batches()
    if held:
        yield from _Piece(pa.Table.from_batches(held), own, clock, carried, sweeper).swept(rows, added)


class _Carried(NamedTuple):
    """What a piece leaves to the next piece of its group."""

    group: int
    keys: pa.Array
    block: Block


class _Piece:
    """Rows of whole groups, or of one group a stretch of time, with what earlier stretches left."""

    def __init__(
        self, table: pa.Table, own: Own, clock: tuple[str, str], carried: _Carried | None, sweeper: Sweeper
    ) -> None:
        self._sweeper = sweeper
        self._group = table.column("_order")[0].as_py() >> 32
        if carried is not None and carried.group != self._group:
            carried = None
        self._asked, happened = _where_valid(table, clock[0]), _where_valid(table, own.key, own.event_time)
        columns = [name for name in table.column_names if name.startswith(EVENT)]
        details = happened.select(columns).rename_columns([name.removeprefix(EVENT) for name in columns])
        details = details.to_struct_array().combine_chunks()
        times = [happened.column(name).to_numpy() for name in (own.event_time, own.available_time)]
        keys = [part.column(own.key) for part in (happened, self._asked)]
        earlier = carried.keys if carried else pa.array([], pa.string())
        coded = pa.chunked_array([earlier, *keys[0].chunks, *keys[1].chunks], pa.string()).combine_chunks()
        coded = coded.dictionary_encode()
        # Codes count from the first: those of earlier keys are what they were. A null key has one without events.
        codes = coded.indices.fill_null(len(coded.dictionary)).to_numpy().astype(np.int64)[len(earlier) :]
        self._keys = coded.dictionary
        before = np.zeros((len(self._keys) + 1, sweeper.sums), np.int64)
        event_keys = codes[: happened.num_rows]
        if carried:
            old = carried.block
            before[: len(earlier)] = old.before
            details = pa.concat_arrays([old.columns, details])
            event_keys = np.concatenate([old.events.key, event_keys])
            times = [np.concatenate(pair) for pair in zip(old.events[1:3], times, strict=True)]
        self._block = Block(Events(event_keys, times[0], times[1]), details, before)
        self._queries = Queries(codes[happened.num_rows :], *(self._asked.column(name).to_numpy() for name in clock))
        if (self._queries.known_by < self._queries.as_of).any():
            raise ValueError("known_by must not be before as_of: what is known of a moment cannot end before it")

    def swept(self, rows: Sequence[str], added: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The piece's rows with the added columns."""
        if not self._asked.num_rows:
            return
        found = self._asked.select(list(rows))
        for name, values in zip(added, self._sweeper.compute(self._block, self._queries), strict=True):
            found = found.append_column(name, values)
        yield from found.combine_chunks().to_batches(max_chunksize=_BLOCK)

    def carried(self, until: int) -> _Carried:
        """What moments from `until` on can still see."""
        kept, before = self._sweeper.outlasting(self._block, until)
        events = Events(*(values[kept] for values in self._block.events[:3]))
        columns = self._block.columns.filter(pa.array(kept))
        return _Carried(self._group, self._keys, Block(events, columns, before[: len(self._keys)]))


def _where_valid(table: pa.Table, *names: str) -> pa.Table:
    """The rows in which none of these columns is null."""
    for name in names:
        if table.column(name).null_count:
            table = table.filter(pc.is_valid(table.column(name)))
    return table
