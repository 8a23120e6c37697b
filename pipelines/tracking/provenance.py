"""What a registered model was made from, as its MLflow run keeps it: `lineage.json`. The output folder may go."""

import importlib.metadata
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pipelines.config import Config, redacted
from pipelines.errors import CorruptDatasetError
from pipelines.storage import Dataset, Workspace
from schemas.manifest import Manifest

LINEAGE = "lineage.json"
"""The artifact of the run."""
FORMAT = 1


def provenance(config: Config, workspace: Workspace, made: Dataset) -> dict[str, Any]:
    """All that `made`, a published model, was made from, directly or not, by digest; with what its manifests still say.

    `data` is dataset -> {digest, rows, code_version, made_at, as_of, raw_files}; of a dataset whose version is gone the
    digest alone.
    """
    manifest = made.manifest
    return {
        "format": FORMAT,
        "model": _about(manifest),
        "data": {name: _found(workspace, name, digest) for name, digest in sorted(manifest.parents.items())},
        "seed": manifest.seed,
        "code_version": manifest.code_version,
        "thaw": importlib.metadata.version("thaw"),
        "config": redacted(config.model_dump(mode="json")),
    }


def _found(workspace: Workspace, name: str, digest: str) -> dict[str, Any]:
    # Snapshots and partials are named by day, DATASET/DAY; what is no dataset has a colon.
    with suppress(CorruptDatasetError):  # an old version that is damaged keeps nobody from registering
        for version in workspace.published(name) if ":" not in name else ():
            if version.manifest.content_digest == digest:
                return _about(version.manifest)
    return {"digest": digest}


def _about(manifest: Manifest) -> dict[str, Any]:
    raw: Mapping[str, Any] = {"raw_files": manifest.notes["raw_files"]} if manifest.notes.get("raw_files") else {}
    return {
        "digest": manifest.content_digest,
        "rows": {name: entry.rows for name, entry in manifest.tables.items() if entry.format != "file"},
        "code_version": manifest.code_version,
        "made_at": manifest.made_at,
        "as_of": manifest.as_of,
        **raw,
    }
