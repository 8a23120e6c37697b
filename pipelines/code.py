"""Which Thaw this is: a digest of its own sources, wherever they were imported from."""

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

PACKAGES = ("schemas", "pipelines", "jobs")


@cache
def code_version() -> str:
    """Digest (16 hex) of Thaw's own sources: a stage made by other code is not resumed, a worker with it is refused.

    The same for a checkout, an installed wheel and a zip on the path.
    """
    hasher = hashlib.sha256()
    for package in PACKAGES:
        for name, source in sorted(_sources(files(package), package)):
            hasher.update(name.encode() + b"\0" + source)
    return hasher.hexdigest()[:16]


def _sources(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        inside = f"{name}/{entry.name}"
        if entry.name.endswith(".py"):
            yield inside, entry.read_bytes()
        elif entry.name != "__pycache__" and entry.is_dir():
            yield from _sources(entry, inside)
