"""IDX files, as MNIST and Fashion-MNIST come, to rows: images of grey bytes, and a file of labels.

Format: yann.lecun.com/exdb/mnist, "The IDX file format".
"""

import posixpath

import fsspec
import numpy as np

from pipelines.errors import SourceError
from pipelines.images.folders import unpacked
from pipelines.images.listing import Found, Place

_UBYTE = 8


def find(place: Place) -> list[Found]:
    """A row an image. Raises SourceError where a file is no IDX file of bytes, or the two do not belong together."""
    path = unpacked(place, place.path())
    rows, height, width = _header(place, path, place.source.path, 3)
    labels: list[str | None] = [None] * rows
    if place.source.labels is not None:
        label_path = unpacked(place, place.path(place.source.labels))
        (count,) = _header(place, label_path, place.source.labels, 1)
        if count != rows:
            raise SourceError(
                f"{place.key}: there must be a label an image, got {count} labels and {rows} images; correct labels"
            )
        fs, inside = fsspec.core.url_to_fs(label_path)
        numbers = np.frombuffer(fs.cat_file(inside)[8:], np.uint8).tolist()
        names = place.options.classes or ()
        labels = [names[number] if number < len(names) else str(number) for number in numbers]
    start, size = 16, height * width
    top = posixpath.normpath(place.source.path).removesuffix(".gz")
    return [
        Found(f"{top}#{n:08d}", path, start + n * size, size, height, width, labels[n], place.source.split)
        for n in range(rows)
    ]


def _header(place: Place, path: str, name: str, dimensions: int) -> tuple[int, ...]:
    """Sizes of an IDX file of bytes with so many dimensions. Raises SourceError where it is none, or is cut off."""
    fs, _ = fsspec.core.url_to_fs(path)
    with fs.open(path, "rb") as file:
        head = file.read(4 + 4 * dimensions)
    magic = bytes([0, 0, _UBYTE, dimensions])
    if head[:4] != magic or len(head) < 4 + 4 * dimensions:
        raise SourceError(
            f"{place.key}: an IDX file of {dimensions} dimensions must begin with {magic.hex()}, {name} begins with "
            f"{head[:4].hex() or 'nothing'}; correct path, labels or format"
        )
    sizes = tuple(int(size) for size in np.frombuffer(head[4:], ">u4"))
    expected = 4 + 4 * dimensions + int(np.prod(sizes, dtype=np.int64))
    if fs.size(path) != expected or not all(sizes):
        raise SourceError(
            f"{place.key}: {name} must have {expected} bytes for its sizes {list(sizes)}, got {fs.size(path)}; "
            "get it again"
        )
    return sizes
