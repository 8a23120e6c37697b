"""Pictures of a classifier: its surest mistakes, its templates, and what it finds alike, each as a small PNG."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.config import ClassifierEvaluationOptions
from pipelines.evaluation.classification import confident_mistakes
from pipelines.evaluation.classifier_split import Predicted, images_of, names_of
from pipelines.models.classifier import templates
from pipelines.models.nearest import Distance, NearestNeighbours
from pipelines.models.saved_classifier import SavedClassifier
from pipelines.storage import Dataset
from pipelines.training.images import LabelledImages, read_images

_SIDE = 96
"""Pixels of a picture's longer side at most: a page of many stays small."""
NEAREST = 5
_KNOWN = 10_000
"""Training images among which a network's neighbours are looked for."""


def png(image: npt.NDArray[np.uint8]) -> str:
    """One image (height, width, 1 or 3) as a PNG in base64, made smaller where it is large."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def kept_pictures(
    saved: SavedClassifier, records: Dataset, split: str, found: Predicted, options: ClassifierEvaluationOptions
) -> dict[str, list[dict[str, Any]]]:
    """`mistakes` (name, label, predicted, confidence, of_label), `templates` (class) and `neighbours` (label, near).

    Each row has its picture as `png`. Templates are there of a linear classifier alone.
    """
    names = tuple(records.manifest.facts["classes"])
    wrong = confident_mistakes(found.probabilities, found.labels, found.ids, names, options.mistakes).to_pylist()
    pictures, paths = images_of(records, split, [row["id"] for row in wrong]), names_of(records)
    linear = saved.state.family == "linear"
    return {
        "mistakes": [{**row, "name": paths[row["id"]], "png": png(pictures[row["id"]])} for row in wrong],
        "templates": template_pictures(templates(saved.model), saved.state.classes) if linear else [],
        "neighbours": _neighbours(saved, records, split, options.neighbours, names),
    }


def template_pictures(pictures: npt.NDArray[np.uint8], names: Sequence[str]) -> list[dict[str, Any]]:
    """The templates of a linear classifier, (classes, height, width, channels), a class each."""
    return [{"class": name, "png": png(picture)} for name, picture in zip(names, pictures, strict=True)]


def alike(
    asked: LabelledImages,
    vectors: npt.NDArray[Any],
    known: LabelledImages,
    known_vectors: npt.NDArray[Any],
    names: Sequence[str],
    distance: Distance = "l2",
) -> list[dict[str, Any]]:
    """Each of `asked` with the images of `known` whose vectors are nearest to its own, the nearest first."""
    k = min(NEAREST, known.rows)
    search = NearestNeighbours(known_vectors, known.labels, len(names), k=k, distance=distance)
    return [
        {
            "png": png(image),
            "label": names[label],
            "near": [{"png": png(known.images[row]), "label": names[known.labels[row]]} for row in near],
        }
        for image, label, near in zip(asked.images, asked.labels, search.neighbours(vectors, k), strict=True)
    ]


def _neighbours(
    saved: SavedClassifier, records: Dataset, split: str, count: int, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Of a network, among a sample of the training images by their content vectors; else among all, which vote."""
    if not count:
        return []
    asked = read_images(records, split, count)
    if isinstance(saved.model, NearestNeighbours):
        known = read_images(records, "train")
        return alike(asked, asked.images, known, known.images, names, saved.model.distance)
    known = read_images(records, "train", _KNOWN)
    return alike(asked, saved.features(asked.images), known, saved.features(known.images), names)
