"""Small real images, made by Pillow, and options that need nothing else."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.config import ImageOptions


def _image_bytes(
    seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB", form: str = "JPEG", **save: Any
) -> bytes:
    width, height = size
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    out = io.BytesIO()
    Image.frombytes(mode, size, values.tobytes()).save(out, form, **save)
    return out.getvalue()


@pytest.fixture(scope="session")
def image_bytes():
    """seed, size, mode, form -> the bytes of an image of noise."""
    return _image_bytes


@pytest.fixture(scope="session")
def options():
    """Changes -> options of one folder source, 6×8 RGB."""

    def make(**changes: Any) -> ImageOptions:
        return ImageOptions.model_validate(
            {"sources": [{"path": "pictures"}], "height": 6, "width": 8, "channels": 3, **changes}
        )

    return make


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A data folder: `pictures/{train,test}/{cat,dog}`, 24 JPEGs and PNGs, one name not ASCII."""
    data = tmp_path / "data"
    for number in range(24):
        split, label = ("train", "train", "test")[number % 3], ("cat", "dog")[number % 2]
        form, ending = (("JPEG", "jpg"), ("PNG", "png"))[number % 5 == 0]
        folder = data / "pictures" / split / label
        folder.mkdir(parents=True, exist_ok=True)
        name = "größe ✓" if number == 7 else f"{number:04d}"
        (folder / f"{name}.{ending}").write_bytes(_image_bytes(number, form=form))
    return data
