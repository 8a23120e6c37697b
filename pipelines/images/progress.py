"""Telling a person how many images are done: a bar on a terminal, a line now and then elsewhere."""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

_BAR_WIDTH = 24
_REDRAW_S = 0.3
_LINE_S = 10.0


class Progress:
    """Watches a file of this machine that local workers lengthen by a byte an image.

    Beam's local runner tells no metrics before it has finished. Workers of other machines find no such file and leave
    it out; their runner shows the counters.
    """

    def __init__(self, label: str, total: int, stream: TextIO | None = None) -> None:
        self._label, self._total = label, total
        self._stream = stream or sys.stderr
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.mark = ""
        """The file."""

    def __enter__(self) -> "Progress":
        handle, self.mark = tempfile.mkstemp(prefix="thaw-progress-")
        os.close(handle)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        Path(self.mark).unlink(missing_ok=True)

    def _watch(self) -> None:
        tty, told_at, told = self._stream.isatty(), time.monotonic(), 0
        while not self._stop.wait(_REDRAW_S):
            done = min(Path(self.mark).stat().st_size, self._total)
            if tty:
                bar = ("█" * round(done / max(self._total, 1) * _BAR_WIDTH)).ljust(_BAR_WIDTH, "░")
                self._write(f"\r{self._label}  {bar}  {done:,}/{self._total:,}")
            elif done > told and time.monotonic() - told_at >= _LINE_S:
                self._write(f"{self._label}  {done:,}/{self._total:,}\n")
                told_at, told = time.monotonic(), done
        if tty:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def advance(mark: str, images: int) -> None:
    """Lengthen the file, where it is there."""
    if mark and images and Path(mark).exists():
        with Path(mark).open("ab", buffering=0) as file:
            file.write(b"." * images)
