"""Encoded items with labels, as a training takes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.content.encoder import Encoder
from pipelines.content.items import LabelledTable, numbers_of
from pipelines.models.nearest import content_rows
from pipelines.training.images import Batches, HeldBatches, LabelledImages
from schemas.fitted import EncoderState, InputSpec


@dataclass(frozen=True)
class LabelledItems:
    """Items in memory."""

    ids: tuple[str, ...]
    images: dict[str, npt.NDArray[Any]]
    """Input name -> (rows, length): what images are to a classifier of images."""
    labels: npt.NDArray[np.int64]
    inputs: tuple[InputSpec, ...]

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.labels)

    def pieces(self) -> Iterator["LabelledItems"]:
        """All of them, in order."""
        yield self

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Shuffled batches."""
        return HeldBatches(self.ids, self.images, self.labels, min(batch_size, self.rows), seed)

    def as_vectors(self) -> LabelledImages:
        """Rows that have distances, for nearest neighbours."""
        vectors: Any = content_rows(self.images, self.inputs)
        return LabelledImages(self.ids, vectors, self.labels)


def encoded(table: LabelledTable, split: str, state: EncoderState) -> LabelledItems:
    """The items of a split."""
    rows = table.rows.filter(pa.array([name == split for name in table.rows["split"].to_pylist()], pa.bool_()))
    arrays = Encoder(state).encode(rows.combine_chunks(), "item")
    return LabelledItems(tuple(rows["item_id"].to_pylist()), arrays, numbers_of(rows, table.classes), state.inputs)
