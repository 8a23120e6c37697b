"""Recipes of classifiers are laid over any source of images, leave nothing of its own recipe, and say how they run."""

from pathlib import Path

import pytest

from pipelines.config import load_config

CONF = Path(__file__).resolve().parents[2] / "conf"
SOURCES = [path for path in sorted(CONF.glob("*.yaml")) if "\nclassifier:" in path.read_text(encoding="utf-8")]
RECIPES = sorted((CONF / "classifiers").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_goes_with_each_source_of_images_and_says_how_to_run_it(recipe) -> None:
    assert len(SOURCES) >= 2
    for source in SOURCES:
        assert load_config([source, recipe]).name == source.stem
    assert f"--config conf/classifiers/{recipe.name}" in recipe.read_text(encoding="utf-8").partition("\n\n")[0]


@pytest.mark.parametrize("name", ["nearest", "softmax", "svm", "two_layer"])
def test_images_of_classifiers_of_raw_pixels_are_left_as_they_are(name) -> None:
    for source in SOURCES:
        options = load_config([source, CONF / "classifiers" / f"{name}.yaml"]).classifier
        assert not any(options.augment.model_dump(exclude={"magnitude"}).values())
