"""Where raw sources are and which columns they must have: files, headers, the first look before Spark reads.

Reading the rows is left to `read`.
"""

import csv
import difflib
import io
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec

from pipelines.config import Config, ContentSource, InteractionSource, SourceFile, TimeColumn
from pipelines.errors import SourceError
from pipelines.storage import Dataset


class _Published(ContentSource):
    """A content source that is a table of a published dataset: the files that its manifest names, and no other."""

    files: tuple[str, ...]


Source = InteractionSource | ContentSource
_UNREADABLE = (".zip", ".xz", ".7z", ".tar", ".tgz", ".rar", ".zst", ".lzma")
_SAMPLE_LINES = 1_000


def labelled_sources(config: Config) -> dict[str, Source]:
    """Every configured source by label, in the order declared."""
    groups: dict[str, Sequence[Source]] = {
        "interactions": config.source.interactions,
        "items": config.source.items,
        "users": config.source.users,
    }
    return {f"{group}[{n}]": source for group, sources in groups.items() for n, source in enumerate(sources)}


def data_address(data: str) -> str:
    """The data folder's full address, with its protocol: what `source_files` start with."""
    fs, root = fsspec.core.url_to_fs(data)
    return str(fs.unstrip_protocol(root))


def source_files(data: str, label: str, source: SourceFile) -> list[str]:
    """Full addresses of a source's files, sorted; hidden ones (`.`, `_`) left out. Raises SourceError where none.

    Spark leaves hidden files out without a word, so one that is named is refused.
    """
    if isinstance(source, _Published):
        return sorted(source.files)
    fs, root = fsspec.core.url_to_fs(data)
    path = posixpath.join(root, source.path)
    if fs.isdir(path):
        base = path.rstrip("/")
        parts = {file: posixpath.relpath(file, base).split("/") for file in fs.find(path)}
        found = [file for file, names in parts.items() if not any(name[0] in "._" for name in names)]
    else:
        found = [file for file in fs.glob(path) if fs.isfile(file)] or ([path] if fs.isfile(path) else [])
        if path in found and posixpath.basename(path)[0] in "._":
            raise SourceError(f"source.{label}.path must not name a hidden file (`.` or `_`), got {path}; rename it")
        found = [file for file in found if posixpath.basename(file)[0] not in "._"]
    if not found:
        raise SourceError(
            f"source.{label}.path must name a file, a folder or a glob, found nothing at {path}; "
            "correct the path, or --data, which it is relative to"
        )
    for file in found:
        if file.lower().endswith(_UNREADABLE):
            raise SourceError(f"source.{label}: compressed files must be .gz or .bz2, got {file}; unpack it")
    return sorted(fs.unstrip_protocol(file) for file in found)


def published_sources(config: Config) -> tuple[str, ...]:
    """The datasets that the configuration's content comes from."""
    sources = labelled_sources(config).values()
    return tuple(sorted({s.dataset for s in sources if isinstance(s, ContentSource) and s.dataset}))


def with_datasets(config: Config, published: Mapping[str, Dataset]) -> Config:
    """`config`, its content sources that name a dataset reading the table of vectors of the published version."""

    def resolved(source: ContentSource) -> ContentSource:
        if source.dataset is None:
            return source
        places = map(fsspec.core.url_to_fs, published[source.dataset].table_paths("vectors"))
        files = tuple(fs.unstrip_protocol(path) for fs, path in places)
        # Its path is that of the folder: whatever lies in the data folder under the dataset's name is none of its.
        path = posixpath.dirname(files[0])
        return _Published.model_construct(**{**dict(source), "path": path, "files": files})

    sides = {"items": tuple(map(resolved, config.source.items)), "users": tuple(map(resolved, config.source.users))}
    return config.model_copy(update={"source": config.source.model_copy(update=sides)})


def needed_columns(source: Source) -> dict[str, str]:
    """Configuration key -> source column that it names."""
    if isinstance(source, InteractionSource):
        times: list[tuple[str, TimeColumn | None]] = [
            ("event_time", source.event_time),
            ("available_time", source.available_time),
        ]
        plain = {"user_id": source.user_id, "item_id": source.item_id, "action": source.action, "weight": source.weight}
    else:
        times = [("valid_from", source.valid_from), ("created_at", source.created_at)]
        plain = {"id": source.id, "title": source.title}
        plain |= {f"columns.{name}": column.column or name for name, column in source.columns.items()}
    named = plain | {f"{key}.column": time.column for key, time in times if time}
    return {key: column for key, column in named.items() if column is not None}


def check_columns(label: str, source: Source, there: Sequence[str], file: str) -> None:
    """Raises SourceError where a configured column is not among those that are there, or is there twice."""
    for key, name in needed_columns(source).items():
        if there.count(name) > 1:
            raise SourceError(f"source.{label}.{key}: {file} has several columns named {name!r}; rename all but one")
        if name in there:
            continue
        lower = {column.lower(): column for column in there}
        near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
        hint = f"did you mean {lower[near[0]]!r}?" if near else f"set source.{label}.{key} to one of them"
        raise SourceError(f"source.{label}.{key} names column {name!r}, {file} has {list(there)}; {hint}")


def first_row(file: str, separator: str, encoding: str) -> list[str]:
    """The values of the first line that is not blank; empty where the file has none."""
    with fsspec.open(file, "rb", compression="infer") as binary:
        text = io.TextIOWrapper(binary, "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding, newline="")
        if len(separator) > 1:
            return next((line.rstrip("\r\n").split(separator) for line in text if line.strip()), [])
        return next((row for row in csv.reader(text, delimiter=separator) if row), [])


def other_separator(row: Sequence[str], separator: str, width: int, wanted: set[str] | None = None) -> str:
    """A remedy, where another separator would give the wanted columns (or at least so many)."""
    line = separator.join(row)
    for other in {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", "::": "double colon", " ": "space"}:
        if other == separator:
            continue
        cut = [name.strip('"') for name in line.split(other)]
        if len(cut) >= width and (wanted is None or wanted <= set(cut)):
            return f"set separator: {json.dumps(other)}"
    return ""


def sample_keys(files: Sequence[str]) -> tuple[list[str], int]:
    """Keys of the first lines' JSON objects, in order of appearance, and the number of lines looked at."""
    seen: dict[str, None] = {}
    lines = 0
    for file in files:
        with fsspec.open(file, "rb", compression="infer") as binary:
            for line in binary:
                if lines >= _SAMPLE_LINES:
                    return list(seen), lines
                if line.strip():
                    lines += 1
                    seen |= dict.fromkeys(_object_keys(line))
    return list(seen), lines


def _object_keys(line: bytes) -> list[str]:
    try:
        value: Any = json.loads(line)
    except ValueError:
        return []
    return list(value) if isinstance(value, dict) else []
