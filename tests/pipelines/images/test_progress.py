"""Progress is told from what workers have done, and leaves nothing behind."""

import io
import time
from pathlib import Path

from pipelines.images import progress
from pipelines.images.progress import Progress, advance


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch, **steps: int) -> str:
    """What is told while so many images are done at a time, each step until its text is there."""
    monkeypatch.setattr(progress, "_REDRAW_S", 0.01)
    monkeypatch.setattr(progress, "_LINE_S", 0.0)
    with Progress("images", 40, stream) as bar:
        for text, images in steps.items():
            advance(bar.mark, images)
            deadline = time.monotonic() + 10
            while text not in stream.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
    assert not Path(bar.mark).exists()
    advance(bar.mark, 1)
    assert not Path(bar.mark).exists()
    return stream.getvalue()


def test_a_terminal_gets_a_bar_that_is_cleared_at_the_end(monkeypatch) -> None:
    told = shown(Terminal(), monkeypatch, **{"20/40": 20, "40/40": 20})
    assert "\rimages  ████████████░░░░░░░░░░░░  20/40" in told
    assert told.endswith("\r\033[K")


def test_elsewhere_there_is_a_line_when_something_was_done_and_retries_do_not_pass_the_total(monkeypatch) -> None:
    assert shown(io.StringIO(), monkeypatch, **{"20/40": 20, "40/40": 30}) == "images  20/40\nimages  40/40\n"
