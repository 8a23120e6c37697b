"""Recipes of classifiers are laid over any source of images, leave nothing of its own recipe, and say how they run."""

import re
from pathlib import Path

import pytest

from pipelines.config import load_config

CONF = Path(__file__).resolve().parents[2] / "conf"
SOURCES = [path for path in sorted(CONF.glob("*.yaml")) if "\nclassifier:" in path.read_text(encoding="utf-8")]
FAMILIES = {
    "longer": "plain",
    "mobilenet_v2": "mobilenet_v2",
    "nearest": "nearest",
    "shufflenet_v2": "shufflenet_v2",
    "softmax": "linear",
    "svm": "linear",
    "two_layer": "two_layer",
}
"""Recipe -> the family that it trains over any source."""


def header(path: Path) -> str:
    """What a file says of itself before its first blank line."""
    return path.read_text(encoding="utf-8").partition("\n\n")[0]


def test_each_recipe_says_which_family_it_trains() -> None:
    assert sorted(FAMILIES) == sorted(path.stem for path in (CONF / "classifiers").glob("*.yaml"))


@pytest.mark.parametrize(("name", "family"), FAMILIES.items())
def test_a_recipe_trains_its_family_over_every_source_of_images(name, family) -> None:
    assert len(SOURCES) >= 2
    for source in SOURCES:
        config = load_config([source, CONF / "classifiers" / f"{name}.yaml"])
        assert (config.name, config.classifier.family) == (source.stem, family)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_recipes_command_reads_the_records_where_the_sources_command_writes_them(name) -> None:
    command = r"thaw train_classifier --config (conf/\w+\.yaml) --config conf/classifiers/{} --out (\S+)"
    found = re.search(command.format(f"{name}.yaml"), header(CONF / "classifiers" / f"{name}.yaml"))
    assert found, "its header must hold a command that runs as it is"
    written = rf"thaw write_image_records --config {found[1]} --data FOLDER --out {found[2]}$"
    assert re.search(written, header(CONF.parent / found[1]), re.MULTILINE)


@pytest.mark.parametrize("name", ["nearest", "softmax", "svm", "two_layer"])
def test_images_of_classifiers_of_raw_pixels_are_left_as_they_are(name) -> None:
    for source in SOURCES:
        options = load_config([source, CONF / "classifiers" / f"{name}.yaml"]).classifier
        assert not any(options.augment.model_dump(exclude={"magnitude"}).values())
