"""Class folders, or files of no class, to rows: of a folder, or of a tar archive read as it is."""

import gzip
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import fsspec

from pipelines.errors import SourceError
from pipelines.images.listing import Found, Place
from schemas.manifest import digest

_ARCHIVES = (".tar.gz", ".tgz", ".tar")
_BLOCK_BYTES = 1 << 22


class Entry(NamedTuple):
    """A file or folder, by its path relative to the source."""

    path: str
    file: str
    offset: int = -1
    size: int = 0
    is_folder: bool = False
    problem: str | None = None
    is_linked_folder: bool = False


def find(place: Place) -> list[Found]:
    """Every file within a class folder. Raises SourceError where there is no such folder, or one is empty."""
    ending = archive_ending(place.source.path)
    entries = list(in_archive(place, place.source.path) if ending else _in_folder(place))
    top = place.source.path.removesuffix(ending)
    found: list[Found] = []
    loose = 0
    folders: dict[Any, str] = {**place.source.folders} or {place.source.split: ""}
    for split, folder in folders.items():
        classes: dict[str, int] = {}
        prefix = folder.strip("/") + "/" if folder.strip("/") else ""
        for entry in entries:
            inside = entry.path.removeprefix(prefix)
            if not entry.path.startswith(prefix) or any(map(_hidden, inside.split("/"))):
                continue
            if entry.is_linked_folder:
                raise SourceError(
                    f"{place.key}: a folder of images must be no link, {place.source.path}/{entry.path} is one; put "
                    "the folder itself there, or name it as a source of its own"
                )
            label, slash, rest = inside.partition("/")
            if entry.is_folder:
                classes.setdefault(label, 0)
            elif not slash:
                loose += 1
            elif rest:
                classes[label] = classes.get(label, 0) + 1
                name = posixpath.normpath(posixpath.join(top, entry.path))
                found.append(
                    Found(name, entry.file, entry.offset, entry.size, label=label, split=split, problem=entry.problem)
                )
        where = f"{place.source.path}/{folder}".rstrip("/")
        if not classes:
            raise SourceError(
                f"{place.key} must hold a folder for each class, {where} holds none; correct path or folders, or --data"
            )
        if empty := sorted(name for name, count in classes.items() if not count):
            raise SourceError(f"{place.key}: a class must have images, {where}/{empty[0]} has none; fill or remove it")
    if loose:
        place.say(f"note: {loose} files of {place.source.path} lie beside the class folders and are of no class")
    return sorted(found)


def find_files(place: Place) -> list[Found]:
    """Every file, however deep, of no class. Raises SourceError where there is no such folder."""
    ending = archive_ending(place.source.path)
    top = place.source.path.removesuffix(ending)
    return sorted(
        Found(posixpath.normpath(posixpath.join(top, e.path)), e.file, e.offset, e.size, problem=_no_file(e))
        for e in (in_archive(place, place.source.path) if ending else _in_folder(place))
        if not e.is_folder and not any(map(_hidden, e.path.split("/")))
    )


def _no_file(entry: Entry) -> str | None:
    return "image: a link to a folder" if entry.is_linked_folder else entry.problem


def source_files(place: Place) -> list[str]:
    """The files that a source is made of."""
    fs, _ = fsspec.core.url_to_fs(place.data)
    if archive_ending(place.source.path):
        return [place.path()] if fs.isfile(place.path()) else []
    # One listing says of all but links what they are: an object store would be asked for each file otherwise.
    found = fs.find(place.path(), detail=True).items()
    return [
        fs.unstrip_protocol(path)
        for path, about in found
        if about["type"] == "file" or (about["type"] != "directory" and fs.isfile(path))
    ]


def archive_ending(path: str) -> str:
    """The ending of an archive's name, empty for any other."""
    return next((ending for ending in _ARCHIVES if path.lower().endswith(ending)), "")


def unpacked(place: Place, path: str) -> str:
    """Address of the file itself, or of what it is compressed from, in the scratch folder. Raises SourceError."""
    fs, _ = fsspec.core.url_to_fs(path)
    if not fs.isfile(path):
        raise SourceError(f"{place.key} must name a file that is there, got {path}; correct its path, or --data")
    if not path.lower().endswith((".gz", ".tgz")):
        return path
    # Compressed bytes have no places to read from: the workers get plain ones.
    target = posixpath.join(place.scratch, f"{digest(path)[:16]}-{posixpath.basename(path)}.plain")
    out_fs, _ = fsspec.core.url_to_fs(target)
    try:
        with fs.open(path, "rb") as packed, gzip.open(packed) as source, out_fs.open(target, "wb") as file:
            shutil.copyfileobj(source, file, _BLOCK_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{place.key}: {path} must be a whole gzip file, it is not ({error}); get it again") from None
    return target


def _in_folder(place: Place) -> Iterator[Entry]:
    fs, root = fsspec.core.url_to_fs(place.path())
    if not fs.isdir(root):
        raise SourceError(
            f"{place.key} must be a folder or one of {', '.join(_ARCHIVES)}, {root} is not; correct its path, or --data"
        )
    for path, about in fs.find(root, withdirs=True, detail=True).items():
        if path.rstrip("/") != root:
            inside = posixpath.relpath(path, root)
            kind = about["type"]
            if about.get("islink"):
                kind = "file" if fs.isfile(path) else "link to a folder" if fs.isdir(path) else "link to nothing"
            yield Entry(
                inside,
                fs.unstrip_protocol(path),
                is_folder=kind == "directory",
                is_linked_folder=kind == "link to a folder",
                problem=None if kind in ("file", "directory") else "image: not a file",
            )


def in_archive(place: Place, inside: str) -> Iterator[Entry]:
    """What the archive at `inside` of the data folder holds. Raises SourceError where it is no whole one."""
    address = unpacked(place, place.path(inside))
    fs, path = fsspec.core.url_to_fs(address)
    try:
        with fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                if name.startswith(("/", "../")) or name == "..":
                    raise SourceError(
                        f"{place.key}: a path must stay within the archive, got {member.name!r}; pack it again"
                    )
                if name == ".":
                    continue
                problem = None if member.isreg() or member.isdir() else "image: a link, not a file"
                yield Entry(name, address, member.offset_data, member.size, member.isdir(), problem)
            # tarfile takes a header that is cut off or damaged for the end. The true end is a block of zeros.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("unexpected end of data")
    except tarfile.TarError as error:
        raise SourceError(f"{place.key}: {inside} must be a whole tar archive ({error}); get it again") from None


def _hidden(name: str) -> bool:
    """What systems put beside images. A name that begins with `_` is a camera's."""
    return name.startswith(".") or name == "__MACOSX"
