"""What a saved classifier says of a split of image records, a piece of the split at a time."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.errors import WorkspaceError
from pipelines.evaluation.metrics import Bools, Ints
from pipelines.models.saved_classifier import SavedClassifier
from pipelines.storage import Dataset, arrow_schema
from pipelines.training.images import image_shape, open_images
from schemas.classes import PREDICTIONS

Image = npt.NDArray[np.uint8]
_REMEDY = (
    "write the records as it was trained, or train on these; a champion of other images is made none by removing the "
    "alias `champion`"
)


@dataclass(frozen=True)
class Predicted:
    """Images of a split, in the order of the records, and what a classifier says of them."""

    ids: tuple[str, ...]
    labels: Ints
    probabilities: npt.NDArray[np.float32]
    """(images, classes)."""

    @property
    def right(self) -> Bools:
        """Which of them it is right about."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.labels)


def predict(saved: SavedClassifier, records: Dataset, split: str, who: str = "the classifier") -> Predicted:
    """The probabilities of a split's images, by the class numbers of the records.

    Raises WorkspaceError where the classifier takes other images or knows other classes; `who` is what it is called.
    """
    columns = class_columns(saved.state.classes, records, who)
    if saved.state.shape != image_shape(records):
        raise WorkspaceError(
            f"{who} must take images of the records' height, width and channels, {image_shape(records)}, it takes "
            f"{saved.state.shape}; {_REMEDY}"
        )
    if saved.state.resize != (fitted := records.manifest.config["images"]["resize"]):
        raise WorkspaceError(
            f"{who} must take images that are fitted as the records' are, by {fitted}, it takes them by "
            f"{saved.state.resize}; {_REMEDY}"
        )
    pieces = [piece for piece in open_images(records, split).pieces() if piece.rows]
    found = [saved.probabilities(piece.images)[:, columns] for piece in pieces]
    return Predicted(
        tuple(name for piece in pieces for name in piece.ids),
        np.concatenate([np.zeros(0, np.int64), *(piece.labels for piece in pieces)]),
        np.concatenate([np.zeros((0, len(columns)), np.float32), *found]),
    )


def class_columns(known: Sequence[str], records: Dataset, who: str) -> list[int]:
    """Where the classifier has each class of the records. Raises WorkspaceError where their classes differ."""
    classes = records.manifest.facts["classes"]
    if strange := sorted(set(known) ^ set(classes)):
        raise WorkspaceError(
            f"{who} must know the classes of the records, {strange[0]!r} is known to one of them alone; {_REMEDY}"
        )
    return [known.index(name) for name in classes]


def pixel_digests(records: Dataset, split: str) -> dict[str, str]:
    """Id -> digest of the pixels, of every image of a split."""
    return {
        name: hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
        for piece in open_images(records, split).pieces()
        for name, image in zip(piece.ids, piece.images, strict=True)
    }


def prediction_table(found: Predicted, records: Dataset, digests: Mapping[str, str]) -> pa.Table:
    """PREDICTIONS of a split, in the order of the ids; `digests` are those of its pixels."""
    classes = np.asarray(records.manifest.facts["classes"], object)
    paths = names_of(records)
    predicted, rows = found.probabilities.argmax(axis=1), np.arange(len(found.ids))
    columns = {
        "example_id": found.ids,
        "name": [paths[example] for example in found.ids],
        "pixels": [digests[example] for example in found.ids],
        "label": classes[found.labels],
        "predicted": classes[predicted],
        "probability": found.probabilities[rows, predicted],
        "of_label": found.probabilities[rows, found.labels],
    }
    return pa.table(columns, schema=arrow_schema(PREDICTIONS)).sort_by("example_id")


def names_of(records: Dataset) -> dict[str, str]:
    """Id -> path of every image."""
    names = records.read_table("images", ["example_id", "name"])
    return dict(zip(names["example_id"].to_pylist(), names["name"].to_pylist(), strict=True))


def images_of(records: Dataset, split: str, ids: Collection[str]) -> dict[str, Image]:
    """Id -> picture (height, width, channels), of some images of a split."""
    wanted = set(ids)
    found: dict[str, Image] = {}
    for piece in open_images(records, split).pieces():
        for place in np.flatnonzero([name in wanted for name in piece.ids]):
            found[piece.ids[place]] = piece.images[place]
    return found
