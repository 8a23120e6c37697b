"""What image records say of their classes: whether each can be learned, and what a classifier of them takes."""

from collections.abc import Mapping
from typing import Any

from pipelines.errors import InputError
from pipelines.storage import Dataset
from pipelines.training.fit import NAMED
from pipelines.training.images import image_shape
from schemas.classifier import ClassifierState


def check_classes(splits: Mapping[str, Any], *, may_lack: bool = False) -> list[str]:
    """Notes on classes with little to learn from. Raises InputError where a class has no training image.

    With `may_lack` such classes are noted too: a network keeps their scores, and learns nothing of them.
    """
    train = splits["train"]["classes"]
    lacking = [name for name, count in train.items() if not count]
    for name in [] if may_lack else lacking:
        elsewhere = {split: splits[split]["classes"][name] for split in ("validation", "test")}
        if any(train.values()):
            found = " and ".join(f"{there:,} in {split}" for split, there in elsewhere.items() if there)
            raise InputError(
                f"each class must have training images, {name!r} has none ({found or 'none anywhere'}); put some into "
                "its training folder, or leave the class out of images.classes"
            )
    single = [name for name, count in train.items() if count == 1]
    notes = [f"one training image is all there is of {', '.join(single)}"] if single else []
    if lacking and any(train.values()):
        notes.append(
            f"{len(lacking):,} of {len(train):,} classes are without a training image that can be read, and nothing is "
            f"learned of them: {', '.join(lacking[:NAMED])}"
        )
    return notes


def state_of(records: Dataset, family: str) -> ClassifierState:
    """What a classifier of these records takes."""
    height, width, channels = image_shape(records)
    return ClassifierState(
        family=family,
        classes=tuple(records.manifest.facts["classes"]),
        height=height,
        width=width,
        channels=channels,
        resize=records.manifest.config["images"]["resize"],
    )
