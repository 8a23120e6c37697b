"""Bytes are read wherever they lie; an image that is wrong is set aside, a disk or a network that is wrong is told."""

import errno
import os

import fsspec
import pyarrow as pa
import pytest

from pipelines.errors import SourceError
from pipelines.images import read
from pipelines.images.decode import Decoder
from pipelines.images.listing import LISTING
from pipelines.images.read import read_block, read_bytes


@pytest.fixture
def rows(tmp_path, image_bytes):
    """Two images of one listing."""
    found = []
    for number in range(2):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(image_bytes(number))
        found.append({"source": "images.sources[0]", "name": path.name, "file": str(path), "offset": -1, "size": 0})
    return pa.Table.from_pylist([{**row, "height": 0, "width": 0} for row in found], schema=LISTING)


@pytest.fixture
def failing(monkeypatch):
    """An error, and how often the second file fails with it."""
    monkeypatch.setattr(read, "_PAUSES_S", (0.0, 0.0))

    def fail(error: OSError, times: int) -> None:
        left, whole = [times], read._whole

        def flawed(path: str) -> bytes:
            if path.endswith("1.jpg") and left[0]:
                left[0] -= 1
                raise error
            return whole(path)

        monkeypatch.setattr(read, "_whole", flawed)

    return fail


def test_images_of_several_file_systems_are_read_in_their_order(tmp_path) -> None:
    fsspec.filesystem("memory").pipe_file("/shelf/far", b"far away")
    (tmp_path / "near").write_bytes(b"near by")
    near = str(tmp_path / "near")
    files = [near, "memory://shelf/far", f"file://{near}", "memory://shelf/gone", "memory://shelf/far"]
    found = list(read_bytes(files, [-1, 4, 5, -1, -1], [0, 4, 2, 0, 0]))
    assert isinstance(found.pop(3), FileNotFoundError)
    assert found == [b"near by", b"away", b"by", b"far away"]


def test_an_error_that_passes_loses_no_image(rows, failing, options) -> None:
    failing(OSError(errno.EIO, "Input/output error"), times=2)
    block = read_block(rows, Decoder(options()))
    assert (len(block.pixels), block.bad) == (2, [])


def test_an_error_that_stays_stops_the_job_and_names_the_file(rows, failing, options) -> None:
    failing(TimeoutError(errno.ETIMEDOUT, "Connection timed out"), times=3)
    with pytest.raises(SourceError, match=r"1\.jpg failed 3 times \(Connection timed out\)"):
        read_block(rows, Decoder(options()))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(errno.ENOENT, "x"), "image: no such file"),
        (NotADirectoryError(errno.ENOTDIR, "x"), "image: no such file"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "image: cannot be read (Permission denied)"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "image: cannot be read (File name too long)"),
    ],
)
def test_an_image_that_is_wrong_itself_is_set_aside_at_once(rows, failing, options, error, reason) -> None:
    failing(error, times=1)
    assert [row["reason"] for row in read_block(rows, Decoder(options())).bad] == [reason]


def test_a_folder_and_an_impossible_name_are_set_aside(rows, options, tmp_path) -> None:
    place = LISTING.get_field_index("file")
    odd = rows.set_column(place, "file", pa.array([str(tmp_path), str(tmp_path / "a\0b")]))
    reasons = [row["reason"] for row in read_block(odd, Decoder(options())).bad]
    assert reasons == ["image: cannot be read (Is a directory)", "image: cannot be read (ValueError)"]
