"""Which images there are: every configured source to rows of one table, before anything is decoded.

Each row says where the image's bytes lie. What the rows become is left to `plan`.
"""

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import fsspec
import pyarrow as pa

from pipelines.config import ImageOptions, ImageSource
from pipelines.errors import SourceError


class Found(NamedTuple):
    """One image of a source."""

    name: str
    """Path relative to the data folder; an archive's name without its ending; for IDX with `#n`."""
    file: str
    """Where the bytes lie, and from which offset how many: -1, 0 for a whole file."""
    offset: int = -1
    size: int = 0
    height: int = 0
    """Of plain grey pixels; 0 where the bytes are a JPEG or PNG."""
    width: int = 0
    label: str | None = None
    split: str | None = None
    item_id: str | None = None
    valid_from: int | None = None
    """UTC microseconds."""
    problem: str | None = None
    """Why it goes to the quarantine unread."""


LISTING = pa.schema(
    [
        ("source", pa.string()),
        ("name", pa.string()),
        ("file", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("item_id", pa.string()),
        ("valid_from", pa.int64()),
        ("problem", pa.string()),
    ]
)
"""`Found` as a table, with the configuration key of its source."""


@dataclass(frozen=True)
class Place:
    """Where a source is read."""

    key: str
    """Configuration key, `images.sources[0]`."""
    source: ImageSource
    options: ImageOptions
    data: str
    """The data folder."""
    scratch: str
    """A folder for what must be unpacked first; every worker reads it."""
    say: Callable[[str], None]
    labelled: bool = True
    """Whether the columns of labels and splits of a table are read."""

    def path(self, inside: str | None = None) -> str:
        """Address of what lies at `inside` (default: the source's path) in the data folder.

        Raises SourceError where that leads out of it.
        """
        fs, root = fsspec.core.url_to_fs(self.data)
        return str(fs.unstrip_protocol(within(root, self.source.path if inside is None else inside, self.key)))


def list_images(
    data: str,
    options: ImageOptions,
    scratch: str,
    say: Callable[[str], None],
    labelled: bool = True,
    key: str = "images.sources",
) -> pa.Table:
    """Every image of every source, as LISTING, in the order of the sources; `key` is where they are configured.

    Raises SourceError.
    """
    tables = []
    for number, source in enumerate(options.sources):
        place = Place(f"{key}[{number}]", source, options, data, scratch, say, labelled)
        found = [_utf8(row) for row in _reader(source)(place)]
        if not found:
            raise SourceError(f"{place.key} must hold images, {source.path} holds none; correct its path, or --data")
        columns = dict(zip(Found._fields, zip(*found, strict=True), strict=True))
        arrays = {"source": [place.key] * len(found), **columns}
        tables.append(pa.table({name: list(values) for name, values in arrays.items()}, schema=LISTING))
    return pa.concat_tables(tables)


def image_files(data: str, options: ImageOptions, key: str = "images.sources") -> list[str]:
    """Every file that the images of all sources come from, for the fingerprint. Raises SourceError."""
    from pipelines.images import folders, tables

    files: set[str] = set()
    named: set[str] = set()
    for number, source in enumerate(options.sources):
        place = Place(f"{key}[{number}]", source, options, data, "", lambda line: None, labelled=False)
        if source.format in ("folders", "files"):
            files |= set(folders.source_files(place))
        elif source.format == "idx":
            named |= {place.path(), place.path(source.labels)} if source.labels else {place.path()}
        elif source.root and folders.archive_ending(source.root):
            named |= {place.path(), place.path(source.root)}
        else:
            named |= {place.path(), *(row.file for row in tables.find(place))}
    fs, _ = fsspec.core.url_to_fs(data)
    return sorted(files | {file for file in named - files if fs.isfile(file)})


def within(root: str, inside: str, key: str) -> str:
    """`inside` joined to `root`. Raises SourceError where it leads out of `root`."""
    path = posixpath.normpath(posixpath.join(root, inside))
    base = posixpath.normpath(root)
    if "://" in inside or not (path == base or path.startswith(base.rstrip("/") + "/")):
        raise SourceError(
            f"{key}: a path must stay within the data folder, got {inside!r}; move the files there, or set --data"
        )
    return path


def nearest(wanted: str, there: Sequence[str]) -> str:
    """A remedy for a name that is not there."""
    import difflib

    near = difflib.get_close_matches(wanted, there, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "name one of them"


def _reader(source: ImageSource) -> Callable[[Place], Iterable[Found]]:
    from pipelines.images import folders, idx, tables

    return {"folders": folders.find, "files": folders.find_files, "idx": idx.find, "table": tables.find}[source.format]


def _utf8(row: Found) -> Found:
    """A file whose name is not UTF-8 cannot be named in a table: it goes to the quarantine, its name escaped."""
    try:
        row.name.encode()
        return row
    except UnicodeEncodeError:
        shown = row.name.encode("utf-8", "backslashreplace").decode()
        return row._replace(name=shown, file=shown, label=None, item_id=None, problem="name: not UTF-8")
