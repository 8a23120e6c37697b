"""Versioned paths and write-then-publish.

A version of a dataset lives in `OUT/<dataset>/<first 16 of its key>-<random>/`; its manifest is written last, and
without one it does not exist. `OUT/<dataset>/CURRENT` names the version that later jobs read. Paths go through fsspec.
That one run at a time makes a version is left to `claim`.
"""

import hashlib
import json
import posixpath
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.claim import claimed
from pipelines.errors import CorruptDatasetError, InputError, WorkspaceError
from schemas.columns import ColumnType, Table
from schemas.manifest import Manifest, Shard, TableEntry, column_entries, digest

MANIFEST = "manifest.json"
MARKER = ".thaw"
_KEY_CHARACTERS = 16
_BLOCK_BYTES = 1 << 22
_GROUP_ROWS = 1 << 16


@dataclass(frozen=True)
class Dataset:
    """A published dataset: where it is and what its manifest says."""

    path: str
    manifest: Manifest

    def table_paths(self, table: str) -> list[str]:
        """Full paths of a table's shards, in order. Raises CorruptDatasetError where the table is unknown."""
        return [posixpath.join(self.path, shard.path) for shard in self._entry(table).shards]

    def read_table(self, table: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet table as Arrow, shards in order: for stages without Spark."""
        entry = self._entry(table)
        names = columns or [column.name for column in entry.columns]
        fs, _ = fsspec.core.url_to_fs(self.path)
        pieces = []
        for path in self.table_paths(table):
            with fs.open(path, "rb") as file:
                pieces.append(pq.read_table(file, columns=names))
        if pieces:
            return pa.concat_tables(pieces)
        return pa.table({c.name: pa.array([], _arrow_type(c.type, c.length)) for c in entry.columns if c.name in names})

    def read_text(self, table: str) -> str:
        """The content of a `file` table, UTF-8."""
        fs, _ = fsspec.core.url_to_fs(self.path)
        return "".join(fs.cat_file(path).decode() for path in self.table_paths(table))

    def read_json(self, table: str) -> Any:
        """The content of a `file` table that holds JSON."""
        return json.loads(self.read_text(table))

    def check_sizes(self) -> None:
        """Look for every shard and its size: cheap. Raises CorruptDatasetError naming the first bad file."""
        fs, root = _file_system(self.path)
        # One listing: an object store would be asked for each shard otherwise.
        sizes = {path: entry["size"] for path, entry in fs.find(root, detail=True).items()}
        for path, shard in self._shards():
            size = sizes.get(posixpath.join(root, shard.path))
            if size is None:
                raise CorruptDatasetError(f"{path} is missing; rebuild {self.manifest.dataset}")
            if size != shard.bytes:
                raise CorruptDatasetError(
                    f"{path} must have {shard.bytes} bytes, got {size}; rebuild {self.manifest.dataset}"
                )

    def verify(self) -> None:
        """Check size and SHA-256 of every shard. Raises CorruptDatasetError naming the first bad file."""
        self.check_sizes()
        fs, _ = fsspec.core.url_to_fs(self.path)
        for path, shard in self._shards():
            if sha256_of(fs, path) != shard.sha256:
                raise CorruptDatasetError(f"{path} was altered since it was published; rebuild {self.manifest.dataset}")

    def _shards(self) -> Iterator[tuple[str, Shard]]:
        for entry in self.manifest.tables.values():
            for shard in entry.shards:
                yield posixpath.join(self.path, shard.path), shard

    def _entry(self, table: str) -> TableEntry:
        try:
            return self.manifest.tables[table]
        except KeyError:
            known = sorted(self.manifest.tables)
            raise CorruptDatasetError(f"{self.manifest.dataset} has no table {table!r}, it has {known}") from None


ARROW_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "list<string>": pa.list_(pa.string()),
    "list<int64>": pa.list_(pa.int64()),
    "list<float32>": pa.list_(pa.float32()),
}
"""Column type -> Arrow type."""


def arrow_schema(table: Table) -> pa.Schema:
    """The table's Arrow schema."""
    return pa.schema([pa.field(c.name, _arrow_type(c.type, c.length)) for c in table])


def _arrow_type(kind: ColumnType, length: int) -> pa.DataType:
    """A list of fixed length is one in Arrow too, and numpy reads it without a copy; other engines see a list."""
    whole = ARROW_TYPES[kind]
    return pa.list_(whole.value_type, length) if length and pa.types.is_list(whole) else whole


@dataclass(frozen=True)
class Workspace:
    """The output folder of a configuration: every dataset it made, by version."""

    root: str

    @classmethod
    def open(cls, root: str) -> "Workspace":
        """Open or create. Raises WorkspaceError where it cannot be, or holds something that Thaw did not make."""
        root = root.rstrip("/")
        if "://" not in root:
            root = str(Path(root).absolute())
        try:
            fs, path = _file_system(root)
        except (ImportError, ValueError) as error:
            raise WorkspaceError(
                f"--out must be a folder or an address that can be opened, {root} cannot be ({error}); correct it, or "
                "install what it needs"
            ) from None
        if "://" not in root:
            cls._prepare(root, fs, path)
            return cls(root)
        try:
            cls._prepare(root, fs, path)
        except WorkspaceError:
            raise
        except Exception as error:  # each store has errors of its own: no credentials, no such host
            raise WorkspaceError(
                f"--out must be an address that can be reached, {root} cannot be ({error}); check the address, the "
                "credentials and, for a store that is not Amazon's, AWS_ENDPOINT_URL"
            ) from None
        return cls(root)

    @staticmethod
    def _prepare(root: str, fs: Any, path: str) -> None:
        if fs.isfile(path):
            raise WorkspaceError(f"--out must be a folder, {root} is a file; choose another")
        marker = posixpath.join(path, MARKER)
        if fs.exists(marker):
            return
        if fs.exists(path) and fs.ls(path):
            raise WorkspaceError(
                f"--out must be empty or made by Thaw, {root} holds something else; choose another folder"
            )
        try:
            make_folder(root)
            fs.pipe_file(marker, b"Output of Thaw. See manifest.json in each dataset.\n")
        except OSError as error:
            reason = error.strerror or error
            raise WorkspaceError(
                f"--out must be a folder that can be written, {root} cannot be ({reason}); choose another"
            ) from None

    def find(self, dataset: str, key: str) -> Dataset | None:
        """The latest published version with this resume key, if there is one and its files are there."""
        pointer = self._pointer(dataset)
        found = []
        for folder in self._versions(dataset, key):
            with suppress(CorruptDatasetError):
                version = open_dataset(folder)
                version.check_sizes()
                is_current = posixpath.basename(folder) == pointer
                found += [(version.manifest.made_at, is_current, version)] if version.manifest.key == key else []
        return max(found, key=lambda entry: entry[:2])[-1] if found else None

    def current(self, dataset: str) -> Dataset | None:
        """The version that later jobs read, if one is published."""
        name = self._pointer(dataset)
        folder = posixpath.join(self.root, dataset, name)
        return open_dataset(folder) if name and self.is_published(folder) else None

    def published(self, dataset: str) -> list[Dataset]:
        """Every published version, the oldest first."""
        found = [open_dataset(folder) for folder in self._versions(dataset, "") if self.is_published(folder)]
        return sorted(found, key=lambda version: (version.manifest.made_at, version.path))

    def is_current(self, dataset: Dataset) -> bool:
        """Whether it is the version that later jobs read."""
        return posixpath.basename(dataset.path) == self._pointer(dataset.manifest.dataset)

    def checkpoints(self, dataset: str, key: str) -> str:
        """Folder, which need not exist, of what a training of this version saves on its way; publishing removes it."""
        return posixpath.join(self.root, dataset, f"{key[:_KEY_CHARACTERS]}.checkpoints")

    def claim(self, dataset: str, key: str, tell: Callable[[str], None]) -> AbstractContextManager[Callable[[], None]]:
        """Be the one run that makes this version, as `claimed` does: to be held when staging and publishing."""
        folder = posixpath.join(self.root, dataset)
        make_folder(folder)
        return claimed(posixpath.join(folder, f"{key[:_KEY_CHARACTERS]}.claim"), f"`{dataset}`", tell)

    def stage(self, dataset: str, key: str) -> str:
        """An empty folder for a version in the making.

        What interrupted runs left of the same version is removed, and what was replaced before its last one.
        """
        latest, pointer = self.find(dataset, key), self._pointer(dataset)
        kept = {pointer, posixpath.basename(latest.path)} if latest else {pointer}
        for folder in self._versions(dataset, key):
            if posixpath.basename(folder) not in kept or not self.is_published(folder):
                # The workers of a killed run may write for a moment more: what they leave is for the next time.
                with suppress(OSError):
                    self.discard(folder)
        path = posixpath.join(self.root, dataset, f"{key[:_KEY_CHARACTERS]}-{uuid.uuid4().hex[:8]}")
        make_folder(path)
        return path

    def publish(self, path: str, manifest: Manifest) -> Dataset:
        """Look for every file that the manifest names, write it to the staged folder, and make that version current.

        A version of the same key that it replaces stays until the next is staged: who has begun to read it can end.
        Raises CorruptDatasetError, and publishes nothing, where a file is missing or not of its size.
        """
        published = Dataset(path, manifest)
        published.check_sizes()
        with whole_file(posixpath.join(path, MANIFEST)) as file:
            file.write(manifest.to_json().encode())
        self.point(published)
        if manifest.key:
            fs, folder = _file_system(self.checkpoints(manifest.dataset, manifest.key))
            # The version is published, come what may of that.
            with suppress(Exception):
                fs.rm(folder, recursive=True)
        return published

    def annotate(self, dataset: Dataset, notes: Mapping[str, Any]) -> Dataset:
        """Add notes to a published version. They are no content: its digest stays, its manifest is replaced whole."""
        manifest = dataset.manifest.model_copy(update={"notes": {**dataset.manifest.notes, **notes}})
        with whole_file(posixpath.join(dataset.path, MANIFEST)) as file:
            file.write(manifest.to_json().encode())
        return Dataset(dataset.path, manifest)

    def discard(self, path: str) -> None:
        """Remove a version, published or not: its manifest first, so that none is there without its files."""
        fs, root = _file_system(path)
        with suppress(FileNotFoundError):
            fs.rm_file(posixpath.join(root, MANIFEST))
        with suppress(FileNotFoundError):
            fs.rm(root, recursive=True)

    def point(self, dataset: Dataset) -> None:
        """Make a published version the current one."""
        name = posixpath.basename(dataset.path)
        folder = posixpath.join(self.root, dataset.manifest.dataset)
        # The claim on the version is held, so the name is ours: whoever dies here leaves what the next one overwrites.
        temporary = posixpath.join(folder, f"CURRENT.{name[:_KEY_CHARACTERS]}.tmp")
        with whole_file(posixpath.join(folder, "CURRENT"), temporary) as file:
            file.write(name.encode())

    def _pointer(self, dataset: str) -> str:
        """Name of the version that CURRENT names, empty where there is none."""
        fs, root = _file_system(self.root)
        try:
            return str(fs.cat_file(posixpath.join(root, dataset, "CURRENT")).decode().strip())
        except FileNotFoundError:
            return ""

    def _versions(self, dataset: str, key: str) -> list[str]:
        """Folders of this resume key, or of any where it is empty, published or not."""
        fs, root = _file_system(self.root)
        folder = posixpath.join(root, dataset)
        found = fs.ls(folder, detail=False) if fs.isdir(folder) else []
        names = sorted(posixpath.basename(path.rstrip("/")) for path in found)
        start = f"{key[:_KEY_CHARACTERS]}-" if key else ""
        return [posixpath.join(self.root, dataset, name) for name in names if name.startswith(start)]

    @staticmethod
    def is_published(folder: str) -> bool:
        """Whether a version's manifest is there."""
        fs, root = _file_system(folder)
        return bool(fs.exists(posixpath.join(root, MANIFEST)))


def require_folder(address: str) -> None:
    """Raises InputError where --data is no folder, or cannot be reached."""
    if "://" not in address:
        if not Path(address).is_dir():
            raise InputError(f"--data must be a folder, {address!r} is not; check the path")
        return
    try:
        fs, path = _file_system(address)
        there = fs.exists(path)
    except Exception as error:  # each store has errors of its own: no driver, no credentials, no such host
        raise InputError(
            f"--data must be an address that can be reached, {address} cannot be ({error}); check the address, the "
            "credentials, and that the store's driver is installed"
        ) from None
    if not there:
        raise InputError(f"--data must be a folder, nothing is at {address}; check the address")


def open_dataset(path: str) -> Dataset:
    """Read a manifest. Raises CorruptDatasetError where it is missing or does not match its digest."""
    fs, _ = fsspec.core.url_to_fs(path)
    try:
        text = fs.cat_file(posixpath.join(path, MANIFEST)).decode()
    except FileNotFoundError:
        raise CorruptDatasetError(f"{path} has no {MANIFEST}: it was never published; run its job again") from None
    try:
        return Dataset(path, Manifest.from_json(text))
    except ValueError as error:
        raise CorruptDatasetError(f"{path}: {error}") from None


def file_table(path: str, name: str, rows: int = 0) -> TableEntry:
    """The entry of one plain file `name` under a staged dataset `path`."""
    return TableEntry(format="file", shards=(describe_shard(path, name, rows),))


def write_json(path: str, name: str, value: Any) -> TableEntry:
    """Write a JSON file under a staged dataset and describe it."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return write_file(path, name, text.encode())


def write_file(path: str, name: str, content: bytes) -> TableEntry:
    """Write a plain file `name` (it may lie in a folder) under a staged dataset and describe it."""
    fs, _ = fsspec.core.url_to_fs(path)
    file = posixpath.join(path, name)
    fs.makedirs(posixpath.dirname(file), exist_ok=True)
    fs.pipe_file(file, content)
    return file_table(path, name)


def write_arrow(path: str, name: str, table: pa.Table, contract: Table) -> TableEntry:
    """Write one Parquet file `name/part-00000.parquet` under a staged dataset: for stages without Spark."""
    fs, _ = fsspec.core.url_to_fs(path)
    fs.makedirs(posixpath.join(path, name), exist_ok=True)
    file = posixpath.join(name, "part-00000.parquet")
    rows = write_parquet(posixpath.join(path, file), table.select(contract.names).to_batches(), arrow_schema(contract))
    return TableEntry(format="parquet", columns=column_entries(contract), shards=(describe_shard(path, file, rows),))


def write_parquet(path: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Write rows as one `whole_file` and say how many there were. The bytes do not depend on how rows are batched."""
    rows, waiting = 0, schema.empty_table()
    with whole_file(path) as out, pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in batches:
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch]).cast(schema)])
            rows += batch.num_rows
            while waiting.num_rows >= _GROUP_ROWS:
                writer.write_table(waiting.slice(0, _GROUP_ROWS).combine_chunks(), row_group_size=_GROUP_ROWS)
                waiting = waiting.slice(_GROUP_ROWS)
        if waiting.num_rows or not rows:
            writer.write_table(waiting.combine_chunks(), row_group_size=_GROUP_ROWS)
    return rows


@contextmanager
def whole_file(path: str, temporary: str = "") -> Iterator[Any]:
    """A binary file to write, which is there as a whole when the block ends, and not at all when it fails.

    A doubled or failed task, or a reader, never sees part of it. Until then it is `temporary`, a name of its own.
    """
    fs, final = fsspec.core.url_to_fs(path)
    if _is_s3(fs):
        with _whole_object(fs, final) as file:
            yield file
        return
    temporary = fs._strip_protocol(temporary) if temporary else f"{final}.{uuid.uuid4().hex}.tmp"
    try:
        with fs.open(temporary, "wb") as file:
            yield file
        fs.mv(temporary, final)
    except BaseException:
        with suppress(FileNotFoundError):
            fs.rm_file(temporary)
        raise


@contextmanager
def _whole_object(fs: Any, path: str) -> Iterator[Any]:
    """An object appears when its upload is committed: it needs no second name, and no copy to the first."""
    file = fs.open(path, "wb", autocommit=False)
    try:
        yield file
        file.close()
    except BaseException:
        file.discard()
        file.closed = True  # or it is closed once more when it is collected, and begins another upload
        raise
    file.commit()


def describe_shard(path: str, name: str, rows: int) -> Shard:
    """Size and digest of a written file."""
    fs, _ = fsspec.core.url_to_fs(path)
    full = posixpath.join(path, name)
    return Shard(path=name, rows=rows, bytes=fs.size(full), sha256=sha256_of(fs, full))


def sha256_of(fs: Any, path: str) -> str:
    """SHA-256 (hex) of a file, read in blocks."""
    hasher = hashlib.sha256()
    with fs.open(path, "rb") as file:
        for block in _blocks(file):
            hasher.update(block)
    return hasher.hexdigest()


def fingerprint(root: str, paths: list[str]) -> str:
    """Digest of source files: names relative to `root`, and contents. Many are read at a time: a store is far away."""
    fs, _ = fsspec.core.url_to_fs(root)

    def described(some: list[str]) -> list[list[str]]:
        # A name that is not UTF-8 is escaped, so that it can be written down.
        names = [posixpath.relpath(path, root).encode("utf-8", "backslashreplace").decode() for path in some]
        return [[name, sha256_of(fs, path)] for name, path in zip(names, some, strict=True)]

    ordered = sorted(paths)
    step = max(1, len(ordered) >> 12)  # a task that waits takes memory: thousands, however many files
    groups = [ordered[start : start + step] for start in range(0, len(ordered), step)]
    with ThreadPoolExecutor(max_workers=16) as threads:
        return digest([one for group in threads.map(described, groups) for one in group])


def _file_system(path: str) -> tuple[Any, str]:
    """File system and path, without memory of earlier listings: other processes write here too."""
    fs, root = fsspec.core.url_to_fs(path)
    fs.invalidate_cache()
    return fs, root


def _is_s3(fs: Any) -> bool:
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def make_folder(path: str) -> None:
    """Make a folder. S3 has none, and asked for one s3fs would make a missing bucket."""
    fs, root = fsspec.core.url_to_fs(path)
    if not _is_s3(fs):
        fs.makedirs(root, exist_ok=True)


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(_BLOCK_BYTES):
        yield block
