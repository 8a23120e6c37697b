"""Nearest neighbours: a row is of the class that most of the training rows nearest to it are of.

Training only remembers, predicting looks at every training row: the other way round from a network. Faiss looks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import faiss as _faiss
import numpy as np
import numpy.typing as npt

from pipelines.errors import ConfigError, SourceError
from schemas.fitted import InputSpec

faiss: Any = _faiss
"""Its generated stubs lack half of it."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Distance = Literal["l1", "l2"]
_METRICS = {"l1": faiss.METRIC_L1, "l2": faiss.METRIC_L2}
_ASKED = 4096
"""Rows that are asked for at a time: as floats pixels take four times the room."""


class NearestNeighbours:
    """k nearest training rows by L1 (sum of differences) or L2 (their Euclidean length), each with one vote."""

    def __init__(self, vectors: npt.NDArray[Any], labels: Ints, classes: int, *, k: int, distance: Distance) -> None:
        """`vectors` (m, …) are read flat, and kept as they are where they are pixels.

        Raises ConfigError where k or distance cannot be.
        """
        if distance not in _METRICS:
            raise ConfigError(f"`distance` must be l1 or l2, got {distance!r}; set one of them")
        if not 1 <= k <= len(labels):
            raise ConfigError(f"`k` must be between 1 and the {len(labels)} training rows, got {k}; set a smaller one")
        self.labels, self.classes, self.k, self.distance = np.asarray(labels, np.int64), classes, k, distance
        flat = np.reshape(vectors, (len(vectors), -1))
        self.vectors = flat if flat.dtype == np.uint8 else _floats(flat)
        self._index = faiss.IndexFlat(flat.shape[1], _METRICS[distance])
        self._index.add(_floats(flat))

    def neighbours(self, vectors: npt.NDArray[Any], k: int) -> Ints:
        """Rows of the training set (n, k), the nearest first."""
        found = np.empty((len(vectors), k), np.int64)
        for start in range(0, len(vectors), _ASKED):
            some = _floats(vectors[start : start + _ASKED])
            found[start : start + _ASKED] = self._index.search(some, k)[1]
        return found

    def shares(self, vectors: npt.NDArray[Any]) -> Floats:
        """Each class's share of the votes, (n, classes)."""
        votes = _votes(self.labels[self.neighbours(vectors, self.k)], self.classes)
        return (votes / self.k).astype(np.float32)

    def predict(self, vectors: npt.NDArray[Any]) -> Ints:
        """Class numbers (n,), as `vote`."""
        return vote(self.labels[self.neighbours(vectors, self.k)], self.classes)

    def save(self, path: str | Path) -> None:
        """Write what it remembers, as an .npz file."""
        with Path(path).open("wb") as file:
            np.savez(
                file,
                vectors=self.vectors,
                labels=self.labels,
                classes=self.classes,
                k=self.k,
                distance=self.distance,
            )


def load_nearest(path: str | Path) -> NearestNeighbours:
    """What `save` wrote. Raises SourceError where the file is something else."""
    try:
        with np.load(path, allow_pickle=False) as held:
            k, distance = int(held["k"]), str(held["distance"])
            return NearestNeighbours(
                held["vectors"],
                held["labels"],
                int(held["classes"]),
                k=k,
                distance=distance,  # type: ignore[arg-type]
            )
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(
            f"nearest neighbours must be an .npz file that `save` wrote, {path} is not: {error}; save them again"
        ) from None


def vote(labels: Ints, classes: int) -> Ints:
    """The class that most of each row's labels (n, k) are; of equals the lowest, as in scikit-learn.

    >>> vote(np.array([[2, 1, 1], [2, 1, 0]]), 3).tolist()
    [1, 0]
    """
    return np.asarray(_votes(labels, classes).argmax(axis=1), np.int64)


def cross_validate(
    vectors: npt.NDArray[Any],
    labels: Ints,
    classes: int,
    ks: Sequence[int],
    *,
    distance: Distance,
    folds: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    """Accuracy by number of neighbours and fold, (ks, folds): which k to take, without a look at the test set.

    Each fold is predicted from the others; neighbours are found once for the largest k. The mean over folds with its
    deviation, drawn over k, is how cs231n chooses.
    """
    rows = np.random.default_rng(seed).permutation(len(labels))
    found = np.zeros((len(ks), folds))
    for fold, held in enumerate(np.array_split(rows, folds)):
        rest = np.setdiff1d(rows, held)
        model = NearestNeighbours(vectors[rest], labels[rest], classes, k=max(ks), distance=distance)
        near = model.labels[model.neighbours(vectors[held], max(ks))]
        found[:, fold] = [(vote(near[:, :k], classes) == labels[held]).mean() for k in ks]
    return found


def content_rows(rows: Mapping[str, npt.NDArray[Any]], specs: Sequence[InputSpec]) -> Floats:
    """Content of any kind as vectors (n, d) that have distances: what a record holds, by input.

    Numbers beside a mask of missing ones, which are 0; of a bag of ids the share of each id, so that a long text is not
    far from all short ones.
    """
    parts = []
    for spec in specs:
        values = rows[spec.name]
        if spec.kind == "floats":
            known = np.isfinite(values)
            parts += [np.where(known, values, 0), ~known]
            continue
        counts = np.zeros((len(values), spec.table_size), np.float32)
        np.add.at(counts, (np.arange(len(values))[:, None], values), 1)
        counts[:, 0] = 0
        parts.append(counts[:, 1:] / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _floats(vectors: npt.NDArray[Any]) -> Floats:
    """(n, …) as (n, d) that Faiss takes."""
    return np.ascontiguousarray(np.reshape(vectors, (len(vectors), -1)), np.float32)


def _votes(labels: Ints, classes: int) -> Ints:
    votes = np.zeros((len(labels), classes), np.int64)
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), 1)
    return votes
