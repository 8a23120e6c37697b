"""Nearest neighbours as a training of one epoch: they remember, and validation says how well."""

import time
from collections.abc import Sequence
from typing import Any

from pipelines.config import NeighbourOptions
from pipelines.errors import ConfigError, InputError
from pipelines.models.nearest import NearestNeighbours
from pipelines.training.history import Epoch, History
from pipelines.training.images import LabelledImages
from pipelines.training.network import MONITOR


def train_nearest(
    options: NeighbourOptions, train: LabelledImages, validation: Any, classes: Sequence[str]
) -> tuple[NearestNeighbours, History]:
    """What remembers `train`, and its accuracy on `validation`.

    Raises InputError where there is nothing to remember, ConfigError where there are fewer rows than neighbours.
    """
    if not train.rows:
        raise InputError("a classifier must have training rows, there are none; put some into the split train")
    if options.k > train.rows:
        raise ConfigError(
            f"classifier.neighbours.k must be at most the {train.rows:,} training rows, got {options.k}; set a "
            "smaller one"
        )
    started = time.monotonic()
    model = NearestNeighbours(train.images, train.labels, len(classes), k=options.k, distance=options.distance)
    seconds = max(time.monotonic() - started, 1e-9)
    right = sum(int((model.predict(piece.images) == piece.labels).sum()) for piece in validation.pieces() if piece.rows)
    metrics = {"validation_accuracy": right / validation.rows} if validation.rows else {}
    return model, History((Epoch(1, metrics, train.rows / seconds, 0.0),), 1, MONITOR)
