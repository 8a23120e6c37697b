"""What a folder of class folders holds, where no configuration says it: splits, image size, colour.

Sizes are those of a sample, read from the files' headers. The result is a section `images` like a written one.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import fsspec
from PIL import Image, UnidentifiedImageError

from pipelines.config import ImageOptions
from pipelines.errors import SourceError
from pipelines.images.listing import list_images
from pipelines.images.plan import example_id

LARGEST = 64
"""Longer sides are reduced to it: a network's cost grows with their square, and small ones see enough of 64."""
SMALLEST = 8
SAMPLE = 256
_SPLITS = {"train": ("train", "training"), "validation": ("validation", "valid", "val"), "test": ("test", "testing")}
"""Split -> names of the folder within the data that may hold its class folders."""
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B")


def infer_images(data: str, say: Callable[[str], None]) -> dict[str, Any]:
    """The section `images` for class folders in `data`, or in train/ and test/ (and validation/) within it.

    Says what it found and how to set it otherwise. Raises SourceError where there are no images.
    """
    splits = split_folders(data)
    source = {"path": ".", **({"folders": splits} if splits else {})}
    # A size has to be given to list them; none of it is used.
    listed = list_images(data, ImageOptions.model_validate({"sources": [source], "height": 1, "width": 1}), "", say)
    names = listed["name"].to_pylist()
    # By a hash of the name, so that the order of the files decides nothing.
    sample = sorted(range(len(names)), key=lambda row: example_id(names[row]))[:SAMPLE]
    found = [about for row in sample if (about := _header(listed["file"][row].as_py()))]
    if not found:
        raise SourceError(
            f"class folders must hold JPEG or PNG images, of {len(sample)} files looked at in {data} none is one; "
            "convert them, or correct --data"
        )
    widths, heights = median(width for width, _, _ in found), median(height for _, height, _ in found)
    height, width = bounded(heights, widths)
    channels = 1 if all(mode in _GREY for _, _, mode in found) else 3
    where = ", ".join(f"{split} in {folder}/" for split, folder in splits.items()) or "splits cut by seed"
    say(
        f"images   {len(names):,} files, {where}; of {len(found)} the median is {heights:.0f}×{widths:.0f}, "
        f"{'grey' if channels == 1 else 'in colour'}: read as {height}×{width}×{channels} (at most {LARGEST} a side "
        "unless asked for: --set images.height=… --set images.width=…)"
    )
    return {"sources": [source], "height": height, "width": width, "channels": channels}


def split_folders(data: str) -> dict[str, str]:
    """Split -> its folder within `data`; empty where there is no folder for training that holds folders: without them
    it is a class that is called so."""
    fs, root = fsspec.core.url_to_fs(data)
    there = {path.rstrip("/").rsplit("/", 1)[-1] for path in fs.ls(root, detail=False) if fs.isdir(path)}
    found = {
        split: next(name for name in names if name in there)
        for split, names in _SPLITS.items()
        if there.intersection(names)
    }
    holds = "train" in found and any(fs.isdir(path) for path in fs.ls(f"{root}/{found['train']}", detail=False))
    return found if holds else {}


def bounded(height: float, width: float) -> tuple[int, int]:
    """Sides of at most LARGEST and at least SMALLEST pixels, in proportion as far as that goes.

    >>> bounded(300, 400), bounded(28, 28), bounded(1, 1)
    ((48, 64), (28, 28), (8, 8))
    """
    scale = min(1.0, LARGEST / max(height, width))
    return max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale))


def _header(file: str) -> tuple[int, int, str] | None:
    """Width, height and mode; None where it is no image. The pixels are not read."""
    try:
        with fsspec.open(file, "rb") as opened, Image.open(opened, formats=("JPEG", "PNG")) as image:
            return image.width, image.height, image.mode
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError):
        return None
