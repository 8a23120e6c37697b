"""A classifier's training as a trial of an ablation: accuracy and loss on validation images, resampled. [keras]"""

from typing import Any

import numpy as np

from pipelines.config import ClassifierOptions
from pipelines.evaluation.ablation import Samples
from pipelines.evaluation.intervals import mean_samples, user_weights
from pipelines.storage import Dataset
from pipelines.training.history import History
from pipelines.training.images import read_images
from pipelines.training.network import scores_of, train_network

_LEAST = 1e-7
"""A probability below it counts as it: one image alone must not decide the mean."""


class AblatedClassifiers:
    """Trainings on the same image records, measured on the same images and resamples of them."""

    def __init__(self, records: Dataset, split: str, resamples: int, seed: int) -> None:
        self._train, self._held = read_images(records, "train"), read_images(records, split)
        self._classes = records.manifest.facts["classes"]
        # One seed for all: what is resampled must be the same for every trial.
        self._weights = user_weights(self._held.rows, resamples, seed)

    def trial(self, options: ClassifierOptions, seed: int) -> tuple[Samples, History]:
        """Train, and measure: `accuracy`, and `log_loss`, the mean of -ln p(right class)."""
        trained = train_network(options, self._train, self._held, self._classes, seed=seed)
        scores = np.asarray(scores_of(trained.model, self._held.images), np.float64)
        accuracy, loss = mean_samples(measures(scores, self._held.labels), self._weights)
        return {"all": {"accuracy": accuracy, "log_loss": loss}}, trained.history


def measures(scores: Any, labels: Any) -> Any:
    """(rows, 2): right or wrong, and -ln p of the label by softmax of `scores` (rows, classes).

    >>> measures(np.array([[0.0, 0.0], [9.0, 9.0]]), np.array([0, 1])).round(3).tolist()
    [[1.0, 0.693], [0.0, 0.693]]
    """
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    own = (odds / odds.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels]
    return np.stack([scores.argmax(axis=1) == labels, -np.log(np.maximum(own, _LEAST))], axis=1).astype(np.float64)
