"""A few raw rows, read again by the standard library and Arrow, with values as written.

Nothing is shared with the parser of `quality` but the configuration and the list of files, so that what both get wrong
is wrong in the configuration. A bounded part of a few files is read, however large they are; what the values mean is
left to `raw_values`.
"""

import codecs
import csv
import io
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import InteractionSource
from pipelines.quality.sources import Source, needed_columns

FILES = 4
"""Rows come from so many files of a source: the first, the last, and others by seed."""
LOOKED_AT = 4 * FILES
"""…or fewer, where most of so many have no row."""
HEAD_ROWS = 5_000
"""Rows read from the beginning of a file, or of a Parquet row group."""
BLOCK_BYTES = 1 << 18
"""Besides, so much of a log's plain text is read at a seeded place and at its end."""

Values = Mapping[str, Any]
"""Source column -> value: text from CSV and JSON lines (null stays None, a fraction is a Decimal, and no id), Arrow's
Python value from Parquet."""


@dataclass(frozen=True)
class RawRow:
    """One row and the file it is in."""

    file: str
    values: Values


def sample_rows(files: Sequence[str], source: Source, count: int, seed: int) -> list[RawRow]:
    """About `count` seeded rows of up to FILES of the `files`; rows that cannot be cut into columns are left out."""
    rng = random.Random(f"{seed}:raw:{source.path}")
    order = dict.fromkeys([files[0], files[-1], *rng.sample(list(files), len(files))])
    read = ([RawRow(file, values) for values in _read(file, source, rng)] for file in list(order)[:LOOKED_AT])
    found = list(itertools.islice((rows for rows in read if rows), FILES))
    return [row for rows in found for row in rng.sample(rows, min(len(rows), -(-count // len(found))))]


def _read(file: str, source: Source, rng: random.Random) -> Iterator[Values]:
    needed = list(dict.fromkeys(needed_columns(source).values()))
    if source.format == "parquet":
        return _parquet(file, needed, rng)
    is_log = isinstance(source, InteractionSource)
    if source.format == "jsonl":
        return _json_lines(_lines(file, "utf-8", rng), needed)
    encoding = codecs.lookup(source.encoding).name
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    separator = source.separator.replace("\\t", "\t")
    if is_log or len(separator) > 1:
        lines = _lines(file, encoding, rng) if is_log else itertools.islice(_text(file, encoding), HEAD_ROWS)
        cut: Iterator[list[str]] = (row for line in lines if line.strip() for row in _cut([line], separator))
    else:  # a catalogue's texts may hold line breaks within quotes: only from the beginning is it clear where rows are
        cut = itertools.islice(_cut(_text(file, encoding), separator), HEAD_ROWS)
    return _named(cut, source, needed)


def _text(file: str, encoding: str) -> Iterator[str]:
    with fsspec.open(file, "rb", compression="infer") as binary:
        yield from io.TextIOWrapper(binary, encoding, errors="replace", newline="")


def _lines(file: str, encoding: str, rng: random.Random) -> Iterator[str]:
    """Lines of the beginning; where bytes can be skipped to, also of a seeded place and of the end."""
    yield from itertools.islice(_text(file, encoding), HEAD_ROWS)
    fs, path = fsspec.core.url_to_fs(file)
    size = fs.size(path)
    if path.endswith((".gz", ".bz2")) or encoding.startswith(("utf-16", "utf-32")) or size <= 2 * BLOCK_BYTES:
        return
    for start in (rng.randrange(size - BLOCK_BYTES), size - BLOCK_BYTES):
        block = fs.cat_file(path, start=start, end=start + BLOCK_BYTES).decode(encoding, errors="replace")
        # The first line is cut off before its beginning, the last perhaps before its end.
        lines = block.split("\n")
        yield from lines[1:-1]


def _cut(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """CSV rows; those that break RFC 4180 are left out."""
    if len(separator) > 1:
        yield from (line.rstrip("\r\n").split(separator) for line in lines)
        return
    rows = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:
            continue


def _named(rows: Iterator[list[str]], source: Source, needed: Sequence[str]) -> Iterator[Values]:
    """Rows as wide as the header. The first of equal names counts."""
    rows = (row for row in rows if row)
    header = next(rows, []) if source.header else list(source.names or ())
    places = {name: header.index(name) for name in needed if name in header}
    for row in rows:
        if len(row) == len(header):
            yield {name: row[place] for name, place in places.items()}


def _json_lines(lines: Iterator[str], needed: Sequence[str]) -> Iterator[Values]:
    for line in lines:
        try:
            values = json.loads(line, parse_int=str, parse_float=Decimal, parse_constant=str)
        except ValueError:
            continue
        if isinstance(values, dict):
            yield {name: values.get(name) for name in needed}


def _parquet(file: str, needed: Sequence[str], rng: random.Random) -> Iterator[Values]:
    """The beginnings of the first, the last and a seeded row group."""
    with fsspec.open(file, "rb") as binary:
        table = pq.ParquetFile(binary)
        groups = table.num_row_groups
        columns = [name for name in needed if name in table.schema_arrow.names]
        for group in sorted({0, groups - 1, rng.randrange(groups)} if groups else ()):
            for batch in itertools.islice(table.iter_batches(HEAD_ROWS, row_groups=[group], columns=columns), 1):
                yield from _in_microseconds(batch).to_pylist()


def _in_microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Points in time as Python's datetime can hold them; what is finer is cut off."""
    columns = [
        column.cast(pa.timestamp("us", column.type.tz), safe=False) if pa.types.is_timestamp(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
