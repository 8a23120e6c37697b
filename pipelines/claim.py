"""One run at a time makes a version: it holds a claim from before it stages a folder until it has published it.

On a disk the claim is a file lock, which the system drops with its process, however that ends. An object store has no
locks: there it is an object that is made only where there is none and renewed every BEAT_S seconds. One that has not
changed for STALE_S seconds is a dead run's, and is taken over.
"""

import datetime as dt
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec

from pipelines.errors import WorkspaceError

BEAT_S = 10.0
STALE_S = 60.0

Tell = Callable[[str], None]


@contextmanager
def claimed(path: str, what: str, tell: Tell) -> Iterator[Callable[[], None]]:
    """Hold the claim `path` on making `what`; where another run holds it, say so in one line and wait.

    Gives a function that raises WorkspaceError where the claim was lost since: for a last look before publishing.
    """
    fs, place = fsspec.core.url_to_fs(path)
    is_disk = isinstance(fs, fsspec.implementations.local.LocalFileSystem)
    waits = _Waits(what, tell)
    with _locked(Path(place), waits) if is_disk else _leased(fs, place, what, waits) as require:
        yield require


@contextmanager
def _locked(path: Path, waits: "_Waits") -> Iterator[Callable[[], None]]:
    file = path.open("a+", encoding="utf-8")
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                waits.say(file.read())
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                raise WorkspaceError(
                    f"--out must be on a file system with file locks, {path} cannot be locked ({error.strerror}); "
                    "mount it with them, or choose another"
                ) from None
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    break
            # Its last holder has removed it: the lock is on a file that no other run can find.
            file.close()
            file = path.open("a+", encoding="utf-8")
        try:
            file.truncate(0)
            file.write(json.dumps(_who()))
            file.flush()
            yield lambda: None
        finally:
            path.unlink(missing_ok=True)
    finally:
        file.close()


@contextmanager
def _leased(fs: Any, path: str, what: str, waits: "_Waits") -> Iterator[Callable[[], None]]:
    mine = {**_who(), "token": uuid.uuid4().hex, "beat": 0}
    while not _create(fs, path, mine):
        waits.say(_read(fs, path))
        _wait(fs, path)

    def is_mine() -> bool:
        return bool(_parsed(_read(fs, path)).get("token") == mine["token"])

    def require() -> None:
        if not is_mine():
            raise WorkspaceError(
                f"one run at a time may make {what}; this one was not heard of for {STALE_S:.0f} s, and another took "
                f"over ({_holder(_read(fs, path)) or 'it is done'}); run it again to read what that one made"
            )

    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(BEAT_S):
            mine["beat"] += 1
            # A store that cannot be reached now may be at the next beat; `require` has the last word.
            with suppress(Exception):
                if is_mine():
                    fs.pipe_file(path, json.dumps(mine).encode())

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield require
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):  # what cannot be removed is not renewed either, and goes stale
            if is_mine():
                fs.rm_file(path)


def _create(fs: Any, path: str, mine: dict[str, Any]) -> bool:
    """Whether the lease could be made: there was none."""
    try:
        fs.pipe_file(path, json.dumps(mine).encode(), mode="create")
    except FileExistsError:
        return False
    except OSError:
        # Not every store says it so.
        if _read(fs, path) is not None:
            return False
        raise
    return True


def _wait(fs: Any, path: str) -> None:
    """Return once the lease is gone; one that does not change for STALE_S of our own clock is removed."""
    seen, since = _read(fs, path), time.monotonic()
    while seen is not None:
        time.sleep(min(BEAT_S, STALE_S) / 10)
        now = _read(fs, path)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STALE_S:
            # Another that waits may have taken it over since: its new lease must stay.
            if _read(fs, path) == seen:
                with suppress(FileNotFoundError):
                    fs.rm_file(path)
            return


def _read(fs: Any, path: str) -> str | None:
    """Content of a claim, None where there is none."""
    try:
        return str(fs.cat_file(path).decode())
    except FileNotFoundError:
        return None


def _who() -> dict[str, Any]:
    since = dt.datetime.now(dt.UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since}


class _Waits:
    """Says, once, that this run waits, and for whom."""

    def __init__(self, what: str, tell: Tell) -> None:
        self._what, self._tell, self._told = what, tell, False

    def say(self, text: str | None) -> None:
        if not self._told:
            holder = _holder(text) or "just begun"
            self._tell(f"{self._what} is being made by another run ({holder}); this one waits for it")
        self._told = True


def _holder(text: str | None) -> str:
    """Who holds a claim, for people; empty where it does not say."""
    found = _parsed(text)
    return f"process {found['process']} on {found['host']}, since {found['since']} UTC" if "process" in found else ""


def _parsed(text: str | None) -> dict[str, Any]:
    """A claim's content; empty where it is not (yet) written."""
    with suppress(ValueError):
        found = json.loads(text or "")
        if isinstance(found, dict):
            return found
    return {}
