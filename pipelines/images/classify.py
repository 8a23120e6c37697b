"""What a saved classifier says of a block of images, as rows of CLASSES. [beam, keras]

The pipeline around it is `infer`'s.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.images.infer import BlockHandler, Pixels
from schemas.classes import CLASSES


def load_classifier(folder: str) -> Any:
    """The `SavedClassifier` of a folder."""
    from pipelines.models.saved_classifier import SavedClassifier

    return SavedClassifier.load(folder)


class ClassifierHandler(BlockHandler):
    """A saved classifier's likeliest classes. `folder` holds its files, where every worker reads them."""

    table = CLASSES

    def __init__(self, folder: str, top: int) -> None:
        super().__init__()
        self._folder, self._top = folder, top

    def load_model(self) -> Any:
        """The classifier."""
        return load_classifier(self._folder)

    def columns(self, block: Pixels, model: Any) -> Sequence[Any]:
        """Name and item, the likeliest class, and the `top` likeliest, equal ones in the order of the classes."""
        probabilities = model.probabilities(block.values)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self._top]
        classes = np.asarray(model.state.classes, object)[order]
        of_top = np.take_along_axis(probabilities, order, axis=1)
        rows = block.rows
        return rows["name"], rows["item_id"], classes[:, 0], of_top[:, 0], classes.tolist(), list(of_top)
