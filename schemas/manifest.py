"""The manifest: what a published dataset is, written last, read first.

Readers take a manifest, never a glob. The content digest covers content only (shards, columns, facts, seed,
as-of times), so that a rerun on another machine, cluster or day has the same digest.
"""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from schemas.columns import ColumnType, Table

FORMAT = 1
"""Version of the manifest's own layout. A reader refuses another."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(_Frozen):
    """One file: path relative to the manifest, rows (examples), bytes, and the SHA-256 of its content."""

    path: str
    rows: int
    bytes: int
    sha256: str

    @field_validator("path")
    @classmethod
    def _stays_within(cls, path: str) -> str:
        if path.startswith("/") or "://" in path or ".." in path.split("/"):
            raise ValueError(f"a shard must lie in its dataset's folder, got {path!r}; rebuild the dataset")
        return path


class ColumnEntry(_Frozen):
    """A column as recorded in a manifest. The last two say how it lies in a TFRecord."""

    name: str
    type: ColumnType
    nullable: bool = False
    unit: str = ""
    length: int = 0
    """Values of a list, bytes of a string; 0 for a scalar, or for a list or string of any length."""
    width: int = 0
    """Bytes of each int64: its varint is padded to this, so that every record has one layout."""


class TableEntry(_Frozen):
    """One table of a dataset: its columns and its shards, in order. `format` is parquet, tfrecord or file."""

    format: str
    columns: tuple[ColumnEntry, ...] = ()
    shards: tuple[Shard, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return sum(shard.rows for shard in self.shards)


class Manifest(_Frozen):
    """A published dataset: the output of one run of one job."""

    format: int = FORMAT
    dataset: str
    tables: dict[str, TableEntry]
    facts: dict[str, Any] = {}
    """What the content says of itself: counts, cuts, audit result, shuffle quality. Part of the digest."""
    seed: int
    as_of: dict[str, int] = {}
    """Named cuts in UTC microseconds: validation_start, test_start, snapshot_time, …"""
    parents: dict[str, str] = {}
    """Dataset name -> content digest of all that this one was made from, directly or not. (`snapshots/DAY:state` is the
    digest of what the next day starts from.)"""
    key: str = ""
    """Resume key: digest of job, configuration that matters, parents, sources and code. Not content."""
    config: dict[str, Any] = {}
    code_version: str = ""
    made_at: str = ""
    seconds: float = 0.0
    notes: dict[str, Any] = {}
    """What differs between equal runs: run ids, host, timings. Not content."""

    @property
    def content_digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON of the content: tables, facts, seed, as-of times."""
        content = self.model_dump(mode="json", include={"dataset", "tables", "facts", "seed", "as_of"})
        return digest(content)

    def to_json(self) -> str:
        """Readable JSON, with the content digest spelled out for people and other tools."""
        return json.dumps(
            {**self.model_dump(mode="json"), "content_digest": self.content_digest},
            indent=1,
            sort_keys=True,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Parse and verify. Raises ValueError where the stated digest is not that of the content."""
        raw = json.loads(text)
        stated = raw.pop("content_digest", None)
        if raw.get("format") != FORMAT:
            raise ValueError(f"a manifest must have format {FORMAT}, got {raw.get('format')}; rebuild the dataset")
        manifest = cls.model_validate(raw)
        if stated != manifest.content_digest:
            raise ValueError(f"the manifest of {manifest.dataset} was altered: its content digest does not match")
        return manifest


def column_entries(table: Table) -> tuple[ColumnEntry, ...]:
    """A table contract's columns, as recorded in a manifest."""
    return tuple(
        ColumnEntry(name=c.name, type=c.type, nullable=c.nullable, unit=c.unit, length=c.length) for c in table
    )


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, no NaN. Digests are taken of this."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
