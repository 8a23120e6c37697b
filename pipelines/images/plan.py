"""What becomes of the listed images: ids, classes, splits, and each one's place in the global order. Arrays only.

The order is that of all records. It needs nothing but the id, so that it is known before an image is opened, and no
pixel is ever shuffled.
"""

import hashlib
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.config import ImageOptions, utc_microseconds
from pipelines.errors import ConfigError, QualityGateError, SourceError, ThawError
from pipelines.images.read import quarantined
from pipelines.records.order import order_key, shard_of
from schemas.columns import TIME_MIN_US
from schemas.examples import SPLITS


@dataclass(frozen=True)
class Plan:
    """Rows to be read, in the order in which they are written."""

    rows: pa.Table
    """LISTING; for records with example_id, number (of the class) and shard (over all splits: i·num_shards + s)."""
    classes: tuple[str, ...]
    bad: list[dict[str, str]]
    """Rows for the quarantine, without a look at the image."""
    duplicates: int
    """Rows that name an image of another row again, and say the same of it."""
    later_classes: int = 0
    """Images of classes that nothing may be learned of yet."""
    superseded: int = 0
    """Images of an item with a newer one from the same moment on: their vectors would never apply.

    That is said of their times alone, before any is opened: where the newest cannot be read, none takes its place.
    """


def example_id(name: str) -> str:
    """The id of an image, a pure function of its name: 32 hexadecimal digits."""
    return hashlib.blake2b(f"image/{name}".encode(), digest_size=16).hexdigest()


def plan_records(
    listing: pa.Table, options: ImageOptions, seed: int, num_shards: int, learns_until: int | None = None
) -> Plan:
    """Number the classes, cut the splits, and put the images into the global order. Raises SourceError.

    Images of a time from `learns_until` (UTC microseconds) on are in test, whatever their source says, and classes that
    come up no earlier are none.
    """
    check_labels(options)
    distinct_rows, bad, duplicates = distinct(listing, ("name",), ("label", "split"))
    rows = _of_known_classes(distinct_rows, learns_until)
    later_classes = distinct_rows.num_rows - rows.num_rows
    classes, rows, unknown = _classes(rows, options.classes)
    ids = [example_id(name) for name in rows["name"].to_pylist()]
    late = _late(rows, learns_until)
    # Time cuts the test split, where it cuts: no share of the earlier images is kept from training besides.
    unsaid = None if learns_until is None else "train"
    splits_said = rows["split"].to_pylist()
    said = ["test" if is_late else split or unsaid for is_late, split in zip(late, splits_said, strict=True)]
    splits = one_of_each(cut_splits(ids, said, options, seed), said, rows["label"].to_pylist(), ids)
    encoded = np.array(ids, dtype="S32")
    keys = order_key(encoded, seed)
    places = {split: place for place, split in enumerate(SPLITS)}
    shards = np.array([places[split] for split in splits], np.int64) * num_shards + shard_of(keys, num_shards)
    numbers = {name: number for number, name in enumerate(classes)}
    columns = {
        "split": pa.array(splits, pa.string()),
        "example_id": pa.array(ids, pa.string()),
        "number": pa.array([numbers[label] for label in rows["label"].to_pylist()], pa.int64()),
        "shard": pa.array(shards, pa.int64()),
    }
    whole = rows.drop_columns(["split"])
    for name, values in columns.items():
        whole = whole.append_column(name, values)
    ordered = whole.take(np.lexsort((encoded, keys, shards)))
    return Plan(ordered, classes, [*bad, *unknown], duplicates, later_classes)


def plan_vectors(listing: pa.Table, options: ImageOptions) -> Plan:
    """Say which item each image shows and from when, and sort by that. Raises ConfigError.

    A time is the image's own or images.embed.valid_from, whichever is later; TIME_MIN_US where there is neither.
    """
    stem = options.embed.item_id == "stem"
    earliest = (
        TIME_MIN_US
        if options.embed.valid_from is None
        else utc_microseconds(options.embed.valid_from, "images.embed.valid_from")
    )
    items = [
        given or (posixpath.splitext(posixpath.basename(name) if stem else name)[0])
        for given, name in zip(listing["item_id"].to_pylist(), listing["name"].to_pylist(), strict=True)
    ]
    place = listing.schema.get_field_index("item_id")
    named = listing.set_column(place, "item_id", pa.array(items, pa.string()))
    rows, bad, duplicates = distinct(named, ("item_id", "valid_from"), ("name",))
    rows = rows.sort_by([("item_id", "ascending"), ("valid_from", "ascending", "at_start")])
    own, items = rows["valid_from"].to_pylist(), rows["item_id"].to_pylist()
    times = [max(time, earliest) if time is not None else earliest for time in own]
    # Of an item's images that would begin to apply at one moment, the newest does.
    pairs = list(zip(items, times, strict=True))
    newest = [
        place for place, pair in enumerate(pairs) if pair != (pairs[place + 1] if place + 1 < len(pairs) else None)
    ]
    place = rows.schema.get_field_index("valid_from")
    dated = rows.set_column(place, "valid_from", pa.array(times, pa.int64())).take(pa.array(newest, pa.int64()))
    return Plan(dated, (), bad, duplicates, superseded=rows.num_rows - dated.num_rows)


def distinct(listing: pa.Table, key: Sequence[str], says: Sequence[str]) -> tuple[pa.Table, list[dict[str, str]], int]:
    """Rows that may be read, one of each `key`; rows for the quarantine; and how many rows repeat another.

    Rows of one key repeat each other if all `say` the same, else all contradict each other, and none is read: the order
    of the rows decides nothing. Of repeating rows the first by source and file is kept, within a file the last: in a
    tar archive, the later member of a name replaces the earlier.
    """
    bad: list[dict[str, str]] = []
    kept: list[int] = []
    alike: dict[tuple[object, ...], list[int]] = {}
    keys, said = (list(zip(*(listing[name].to_pylist() for name in names), strict=True)) for names in (key, says))
    for place, problem in enumerate(listing["problem"].to_pylist()):
        if problem is None:
            alike.setdefault(keys[place], []).append(place)
        else:
            bad.append(quarantined(_row(listing, place), problem))
    duplicates = 0
    for places in alike.values():
        if len(places) == 1:
            kept += places
        elif len({said[place] for place in places}) == 1:
            kept.append(min(places, key=lambda place: _precedence(_row(listing, place))))
            duplicates += len(places) - 1
        else:
            reason = f"{says[0]}: another row of the same {key[0]} says otherwise"
            bad += [quarantined(_row(listing, place), reason) for place in places]
    return listing.take(pa.array(sorted(kept), pa.int64())), bad, duplicates


def cut_splits(ids: Sequence[str], given: Sequence[str | None], options: ImageOptions, seed: int) -> list[str]:
    """Each image's split: as its source says, else cut by a keyed hash of its id; validation is cut from train."""
    validation = 0.0 if "validation" in given else options.validation_share
    splits = []
    for share, split in zip(_uniform(ids, seed).tolist(), given, strict=True):
        if split is None and share >= 1 - options.test_share:
            splits.append("test")
        elif split in (None, "train") and share < validation:
            splits.append("validation")
        else:
            splits.append(split or "train")
    return splits


def one_of_each(
    splits: Sequence[str], given: Sequence[str | None], labels: Sequence[str], ids: Sequence[str]
) -> list[str]:
    """`splits`, but of a class that the cut alone left nothing to train on the image of the lowest id is in train."""
    found = list(splits)
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    for _, place in sorted((name, place) for place, name in enumerate(ids)):
        if labels[place] not in trained and given[place] in (None, "train"):
            found[place] = "train"
            trained.add(labels[place])
    return found


def check_labels(options: ImageOptions) -> None:
    """Raises ConfigError where a source says nothing of classes."""
    for number, source in enumerate(options.sources):
        if source.format == "files":
            raise ConfigError(
                f"images.sources[{number}].format must not be files where records are written: they hold a class; put "
                "the images into a folder a class, or name the classes in a table"
            )
        key = {"table": "label", "idx": "labels"}.get(source.format)
        if key and getattr(source, key) is None:
            raise ConfigError(
                f"images.sources[{number}].{key} must be set where records are written: they hold a class; set {key}"
            )


def check_share(rows_in: int, bad: Sequence[Mapping[str, str]], largest: float) -> None:
    """Raises QualityGateError, with the commonest reasons, where too many rows went to the quarantine."""
    if len(bad) <= largest * rows_in and len(bad) < rows_in:
        return
    reasons = Counter(row["reason"] for row in bad).most_common(3)
    told = "; ".join(f"{reason} ({count:,})" for reason, count in reasons)
    raise QualityGateError(
        f"at most {largest:.1%} of the images may be quarantined, got {len(bad) / rows_in:.1%} ({len(bad):,} of "
        f"{rows_in:,}): {told}; for example {bad[0]['file']}. Mend the source, or set images.max_quarantine_share"
    )


def accounted(rows: Mapping[str, int]) -> str:
    """A line that says what became of the rows `in`. Raises ThawError where one is lost, or comes out twice.

    >>> accounted({"in": 3, "out": 2, "of_later_classes": 1})
    'rows     3 in = 2 out + 1 of later classes'
    """
    if 2 * rows["in"] != sum(rows.values()):
        raise ThawError(f"every image must come out once, these do not: {dict(rows)}")
    told = " + ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in rows.items())
    return "rows     " + told.replace(" + ", " = ", 1)


def _row(listing: pa.Table, place: int) -> dict[str, Any]:
    """One row of a listing."""
    row: dict[str, Any] = listing.slice(place, 1).to_pylist()[0]
    return row


def _precedence(row: dict[str, Any]) -> tuple[object, ...]:
    """A total order of rows, by all that they say."""
    rest = ((value is not None, value) for value in row.values())
    return row["source"], row["file"], -row["offset"], *rest


def _late(rows: pa.Table, learns_until: int | None) -> list[bool]:
    """Whether each row's image is of a time that nothing may be learned of."""
    times = rows["valid_from"].to_pylist()
    return [learns_until is not None and time is not None and time >= learns_until for time in times]


def _of_known_classes(rows: pa.Table, learns_until: int | None) -> pa.Table:
    """The rows whose class has an image that may be learned from."""
    labels = rows["label"].to_pylist()
    late = _late(rows, learns_until)
    known = {label for label, is_late in zip(labels, late, strict=True) if not is_late}
    return rows.filter(pa.array([label in known for label in labels], pa.bool_()))


def _classes(rows: pa.Table, given: tuple[str, ...] | None) -> tuple[tuple[str, ...], pa.Table, list[dict[str, str]]]:
    """Class names by number, the rows of these classes, and the others for the quarantine."""
    labels = rows["label"].to_pylist()
    there = set(labels)
    if given is None:
        # 10 comes after 9 where all names are numbers.
        numeric = all(label.isascii() and label.isdigit() for label in there)
        return tuple(sorted(there, key=(lambda name: (int(name), name)) if numeric else None)), rows, []
    if missing := [name for name in given if name not in there]:
        raise SourceError(
            f"a class must have images, {missing[0]!r} of images.classes has none; there are {sorted(there)[:20]}"
        )
    strange = [place for place, label in enumerate(labels) if label not in given]
    bad = [quarantined(_row(rows, place), "label: not among images.classes") for place in strange]
    known = np.setdiff1d(np.arange(len(labels)), strange)
    return given, rows.take(known), bad


def _uniform(ids: Sequence[str], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) of each id, independent of its place in the order."""
    key = hashlib.blake2b(f"split/{seed}".encode(), digest_size=32).digest()
    hashes = [int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8, key=key).digest()) >> 11 for i in ids]
    return np.array(hashes, np.float64) / 2**53
