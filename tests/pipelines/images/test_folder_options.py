"""What a folder of class folders is found to hold, without a configuration."""

import numpy as np
import pytest
from PIL import Image

from pipelines.config import ImageOptions
from pipelines.errors import SourceError
from pipelines.images.folder_options import infer_images


def put(folder, *, sizes=((30, 20),), mode="RGB", classes=("cat", "dog")) -> None:
    """PNGs of these widths and heights in each class."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number, (width, height) in enumerate(sizes):
            Image.new(mode, (width, height)).save(folder / name / f"{number}.png")


def found(folder):
    lines = []
    options = infer_images(str(folder), lines.append)
    ImageOptions.model_validate(options)
    return options, "\n".join(lines)


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({"sizes": [(28, 28)], "mode": "L"}, (28, 28, 1)),
        ({"sizes": [(28, 28)], "mode": "I;16"}, (28, 28, 1)),
        ({"sizes": [(28, 28)], "mode": "RGBA"}, (28, 28, 3)),
        ({"sizes": [(400, 300), (40, 30), (400, 300)]}, (48, 64, 3)),
        ({"sizes": [(1, 1)]}, (8, 8, 3)),
        ({"sizes": [(2000, 10)]}, (8, 64, 3)),
    ],
)
def test_the_size_is_the_median_of_a_sample_within_bounds(tmp_path, given, shape) -> None:
    put(tmp_path, **given)
    options, told = found(tmp_path)
    assert (options["height"], options["width"], options["channels"]) == shape
    assert "splits cut by seed" in told and "--set images.height=" in told


def test_folders_called_train_and_test_hold_the_splits(tmp_path) -> None:
    for name in ("train", "test", "valid"):
        put(tmp_path / name)
    options, told = found(tmp_path)
    assert options["sources"] == [{"path": ".", "folders": {"train": "train", "validation": "valid", "test": "test"}}]
    assert "validation in valid/" in told


def test_a_class_may_be_called_test_where_there_is_no_train(tmp_path) -> None:
    put(tmp_path, classes=("test", "prod"))
    assert found(tmp_path)[0]["sources"] == [{"path": "."}]


def test_a_class_may_be_called_train(tmp_path) -> None:
    put(tmp_path, classes=("bus", "car", "train"))
    options, told = found(tmp_path)
    assert options["sources"] == [{"path": "."}]
    assert "3 files, splits cut by seed" in told


def test_what_holds_no_images_is_said(tmp_path) -> None:
    with pytest.raises(SourceError, match="must hold a folder for each class"):
        found(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(SourceError, match="a class must have images"):
        found(tmp_path)
    (tmp_path / "cat" / "x.png").write_bytes(np.random.default_rng(0).bytes(99))
    with pytest.raises(SourceError, match=r"must hold JPEG or PNG images, of 1 files looked at .* none is one"):
        found(tmp_path)
