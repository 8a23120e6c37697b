"""A saved classifier: what a program has to know to give it images, beside its weights."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

FORMAT = 1
"""Version of a saved classifier's layout. A reader refuses another."""
CLASSIFIER_FILES = {"classifier": "classifier.keras", "neighbours": "neighbours.npz", "state": "classifier.json"}
"""Table of the `classifier` dataset -> file. Of the first two there is one: the second of the family nearest."""


class ClassifierState(BaseModel):
    """What a classifier takes, and what its scores stand for: `classifier.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    family: str
    classes: tuple[str, ...]
    """Names, in the order of the scores."""
    height: int
    width: int
    channels: int
    """3: RGB; 1: luminance."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """How another shape is fitted, as `images.resize`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image."""
        return self.height, self.width, self.channels
