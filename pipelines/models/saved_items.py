"""A classifier of items' content as it was saved: its encoder, its network or neighbours, and what its scores mean."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from pipelines.content.encoder import Encoder
from pipelines.models.nearest import NearestNeighbours, content_rows, load_nearest
from pipelines.models.saved_classifier import BATCH, in_batches
from schemas.classifier import CLASSIFIER_FILES
from schemas.columns import ColumnType
from schemas.fitted import EncoderState

SAVED_ITEMS = {**CLASSIFIER_FILES, "encoder": "encoder.json"}
"""Table of the `content_classifier` dataset -> file."""


class SavedItems:
    """A trained classifier of items and what it takes."""

    def __init__(self, classes: list[str], state: EncoderState, model: Any) -> None:
        """`model`: Keras's, whose layer `scores` ends it, or `NearestNeighbours`."""
        self.classes, self.encoder, self.model = classes, Encoder(state), model

    @classmethod
    def load(cls, folder: str) -> "SavedItems":
        """Read the files of a folder of this machine."""
        path = Path(folder)
        about = json.loads((path / SAVED_ITEMS["state"]).read_text(encoding="utf-8"))
        state = EncoderState.model_validate_json((path / SAVED_ITEMS["encoder"]).read_text(encoding="utf-8"))
        near = path / SAVED_ITEMS["neighbours"]
        if near.exists():
            return cls(about["classes"], state, load_nearest(near))
        model = keras.saving.load_model(path / SAVED_ITEMS["classifier"], compile=False, safe_mode=True)
        return cls(about["classes"], state, model)

    @property
    def columns(self) -> dict[str, ColumnType]:
        """The raw content columns that it reads, with their types."""
        return self.encoder.raw_columns("item")

    def probabilities(self, rows: Any) -> npt.NDArray[np.float32]:
        """An Arrow table of n rows -> (n, C), in the order of `classes`: softmax of the scores, or shares of votes."""
        inputs = self.encoder.encode(rows, "item")
        if isinstance(self.model, NearestNeighbours):
            return np.asarray(self.model.shares(content_rows(inputs, self.encoder.state.inputs)), np.float32)
        scores = in_batches(self.model.predict_on_batch, inputs, BATCH)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
