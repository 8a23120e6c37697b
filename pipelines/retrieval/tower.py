"""One tower by itself: what embeds new items (or users) where the other side is not needed.

A saved tower is a folder with the files of a scorer, reduced to the weights, inputs and fitted state of one side, under
`user_tower/` or `item_tower/`.
"""

import posixpath
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from pipelines.errors import CorruptDatasetError
from pipelines.models.dropoutnet import DropoutNet, empty_rows
from pipelines.retrieval.factors import Factors
from pipelines.retrieval.scorer import FILES, ModelCard, Scorer, check_format, weights_from_bytes, weights_to_bytes
from pipelines.storage import write_file
from schemas.content import Side
from schemas.fitted import EncoderState
from schemas.manifest import TableEntry


class TowerScorer:
    """A loaded tower: raw features of its side to embeddings."""

    def __init__(self, side: Side, scorer: Scorer) -> None:
        self.side, self._scorer = side, scorer

    def embed(self, table: pa.Table, *, missing_preference: bool = False) -> npt.NDArray[np.float32]:
        """Raw features -> (n, d) vectors, the same as the whole scorer's."""
        return self._scorer.embed(self.side, table, missing_preference=missing_preference)


def save_tower(folder: str, scorer: Scorer, side: Side) -> dict[str, TableEntry]:
    """Write one side of a scorer under a staged folder and describe the files."""
    state = of_side(scorer.encoder.state, side)
    whole, model = scorer.model, _one_sided(state, scorer.model.options, side)
    # A tower that is built by itself is not inside its model's scope.
    values = {weight.path.removeprefix(f"{whole.name}/"): weight for weight in whole.weights}
    for weight in model.weights:
        weight.assign(values[weight.path.removeprefix(f"{model.name}/")])
    content = {
        "towers": weights_to_bytes(model),
        "encoder": state.model_dump_json(indent=1).encode(),
        "model": ModelCard(options=scorer.model.options).model_dump_json(indent=1).encode(),
    }
    if scorer.factors is not None and _reads_factors(state, side):
        content["factors"] = scorer.factors.to_bytes()
    name = f"{side}_tower"
    return {f"{name}_{table}": write_file(folder, f"{name}/{FILES[table]}", value) for table, value in content.items()}


def load_tower(folder: str, side: Side) -> TowerScorer:
    """Read what `save_tower` wrote into `folder`. Raises CorruptDatasetError where it is not there, or is another's."""
    fs, _ = fsspec.core.url_to_fs(folder)
    origin = posixpath.join(folder, f"{side}_tower")
    try:
        read = {table: bytes(fs.cat_file(f"{origin}/{FILES[table]}")) for table in ("towers", "encoder", "model")}
        check_format(origin)
        state, card = EncoderState.model_validate_json(read["encoder"]), ModelCard.model_validate_json(read["model"])
        known = bytes(fs.cat_file(f"{origin}/{FILES['factors']}")) if _reads_factors(state, side) else None
    except (FileNotFoundError, ValidationError) as error:
        raise CorruptDatasetError(f"{origin} must hold a saved tower, it does not: {error}; recommend again") from None
    model = _one_sided(state, card.options, side)
    weights_from_bytes(model, read["towers"], origin)
    factors = Factors.from_bytes(known, origin) if known is not None else None
    return TowerScorer(side, Scorer(model, state, factors))


def of_side(state: EncoderState, side: Side) -> EncoderState:
    """The fitted state that one side's inputs need."""
    inputs = tuple(spec for spec in state.inputs if spec.side == side)
    tables, columns = {spec.table for spec in inputs}, {name for spec in inputs for name in spec.columns}
    return state.model_copy(
        update={
            "inputs": inputs,
            "vocabularies": {name: values for name, values in state.vocabularies.items() if name in tables},
            "normalisers": {name: values for name, values in state.normalisers.items() if name in columns},
            "idf": {name: values for name, values in state.idf.items() if name in tables},
        }
    )


def _reads_factors(state: EncoderState, side: Side) -> bool:
    return any(spec.name == f"{side}_factor" for spec in state.inputs)


def _one_sided(state: EncoderState, options: Any, side: Side) -> DropoutNet:
    """A model of which one tower is built."""
    model = DropoutNet(state.inputs, options, state.idf, seed=0)
    model.tower(side)(empty_rows(state.inputs, rows=1))
    return model
