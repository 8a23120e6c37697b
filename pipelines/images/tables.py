"""A CSV or Parquet file of image paths, with labels, splits, items and times, to rows."""

import datetime as dt
import posixpath
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import fsspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipelines.config import TimeColumn
from pipelines.errors import SourceError
from pipelines.images.folders import Entry, archive_ending, in_archive
from pipelines.images.listing import Found, Place, nearest, within
from schemas.columns import TIME_MAX_US, TIME_MIN_US
from schemas.examples import SPLITS

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US_PER_TICK = {"s": Decimal(1_000_000), "ms": Decimal(1_000), "us": Decimal(1), "ns": Decimal("0.001")}


def find(place: Place) -> list[Found]:
    """A row of the table each. Raises SourceError where a column or the file is not there, or a path leads astray."""
    source = place.source
    time = source.valid_from
    names = {
        "image": source.image,
        "label": source.label if place.labelled else None,
        "split_column": source.split_column if place.labelled else None,
        "item_id": source.item_id,
        "valid_from": time.column if time else None,
    }
    zone = _zone(place, time)
    table = _read(place, {key: name for key, name in names.items() if name is not None})
    columns = {key: table.column(name).to_pylist() if name else None for key, name in names.items()}
    fs, root = fsspec.core.url_to_fs(place.data)
    base = source.root if source.root is not None else posixpath.dirname(source.path)
    ending = archive_ending(base)
    # Of several members of one path the last applies, as in class folders.
    packed = {entry.path: entry for entry in in_archive(place, base)} if ending else {}
    found = []
    for number in range(table.num_rows):
        row = {key: values[number] if values else None for key, values in columns.items()}
        texts = {key: (str(value).strip() if value is not None else "") for key, value in row.items()}
        problems = list(_empty(texts, names))
        split = texts["split_column"] or source.split
        if split and split not in SPLITS:
            problems.append(f"split: must be among {', '.join(SPLITS)}, got {split}")
        moment: int | None = None
        if time and texts["valid_from"]:
            moment, problem = parse_time(row["valid_from"], time, zone)
            problems += [problem] if problem else []
        top = base.removesuffix(ending)
        path = within(root, posixpath.join(top, texts["image"]), f"{place.key}.image, row {number + 1}")
        member = Entry("", fs.unstrip_protocol(path))
        if ending:
            missing = Entry("", place.path(base), problem="image: not in the archive")
            member = packed.get(posixpath.normpath(texts["image"]), missing)
            problems += [member.problem] if member.problem else []
        found.append(
            Found(
                name=posixpath.relpath(path, root) if texts["image"] else f"{source.path}, row {number + 1}",
                file=member.file,
                offset=member.offset,
                size=member.size,
                label=texts["label"] or None,
                split=split or None,
                item_id=texts["item_id"] or None,
                valid_from=moment,
                problem=problems[0] if problems else None,
            )
        )
    return found


def parse_time(value: object, time: TimeColumn, zone: ZoneInfo | None) -> tuple[int | None, str | None]:
    """(UTC microseconds or null, problem or null) of a value as read: text, a number or a timestamp."""
    moment: dt.datetime | None = value if isinstance(value, dt.datetime) else None
    text = str(value).strip()
    if moment is None and time.unit in _US_PER_TICK:
        try:
            micros = int((Decimal(text) * _US_PER_TICK[time.unit]).to_integral_value("ROUND_FLOOR"))
        except (InvalidOperation, ValueError, OverflowError):
            return None, f"valid_from: not a time in {time.unit}"
    else:
        try:
            moment = moment or dt.datetime.fromisoformat(text)
        except ValueError:
            return None, "valid_from: not a time in iso"
        if moment.tzinfo is None:
            if zone is None:
                return None, "valid_from: a time without a zone"
            moment = moment.replace(tzinfo=zone)
        micros = (moment - _EPOCH) // dt.timedelta(microseconds=1)
    if not TIME_MIN_US <= micros <= TIME_MAX_US:
        return None, "valid_from: before 1900 or after 2100, check unit"
    return micros, None


def _read(place: Place, wanted: dict[str, str]) -> pa.Table:
    """The wanted columns. CSV values are text, Parquet's what they are."""
    fs, _ = fsspec.core.url_to_fs(place.data)
    path, name = place.path(), place.source.path
    if not fs.isfile(path):
        raise SourceError(f"{place.key} must name a file that is there, got {path}; correct its path, or --data")
    try:
        with fs.open(path, "rb") as file:
            if name.lower().endswith(".parquet"):
                there = pq.read_schema(file).names
                _check(place, wanted, there)
                return pq.read_table(file, columns=list(dict.fromkeys(wanted.values())))
            if not name.lower().endswith((".csv", ".tsv", ".txt")):
                raise SourceError(f"{place.key}: a table of images must be .csv or .parquet, got {name}; convert it")
            parse = pa_csv.ParseOptions(delimiter=place.source.separator, newlines_in_values=True)
            with pa_csv.open_csv(file, parse_options=parse) as reader:
                there = reader.schema.names
            _check(place, wanted, there)
            file.seek(0)
            columns = list(dict.fromkeys(wanted.values()))
            convert = pa_csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            )
            return pa_csv.read_csv(file, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, UnicodeError) as error:
        raise SourceError(f"{place.key}: {name} cannot be read as a table ({error}); correct it") from None


def _check(place: Place, wanted: dict[str, str], there: list[str]) -> None:
    for key, column in wanted.items():
        if column not in there:
            raise SourceError(
                f"{place.key}.{key} names column {column!r}, {place.source.path} has {there}; {nearest(column, there)}"
            )


def _empty(texts: dict[str, str], names: dict[str, str | None]) -> Iterator[str]:
    for key, name in names.items():
        if name is not None and not texts[key]:
            yield f"{key.removesuffix('_column')}: empty"


def _zone(place: Place, time: TimeColumn | None) -> ZoneInfo | None:
    if time is None or time.zone is None:
        return None
    try:
        return ZoneInfo(time.zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise SourceError(
            f"{place.key}.valid_from.zone must be a time zone, got {time.zone!r}; set one such as UTC or Europe/Oslo"
        ) from None
