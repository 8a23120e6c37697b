"""The whole scorer: raw feature values in, embeddings and scores out. What is saved, registered and served.

Files of a saved scorer: `towers.npz` (weights by path), `encoder.json` (vocabularies, normalisers, inputs),
`model.json` (options) and, of towers that read reference factors, `factors.arrow`. How weights come about is left to
training, finding the best items to `top_k`.
"""

import io
import json
import posixpath
import zipfile
from collections.abc import Mapping
from typing import Any, Literal

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.config import ModelOptions
from pipelines.content.encoder import Encoder
from pipelines.errors import CorruptDatasetError
from pipelines.models.dropoutnet import DropoutNet, build_dropoutnet
from pipelines.retrieval.factors import Factors
from pipelines.retrieval.fresh import new_items_of
from pipelines.storage import file_table
from schemas.columns import ColumnType
from schemas.content import Side
from schemas.fitted import EncoderState
from schemas.manifest import TableEntry

Floats = npt.NDArray[np.float32]

FILES = {"towers": "towers.npz", "encoder": "encoder.json", "model": "model.json", "factors": "factors.arrow"}
"""Table of the `model` dataset -> file. The last is there only where the towers read reference factors."""


FORMAT = 1
"""Version of a saved scorer's layout. A reader refuses another."""


class Calibration(BaseModel):
    """log odds of a click = slope·score + intercept; the slope is positive, so that no order changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float
    intercept: float


class ModelCard(BaseModel):
    """What a model is built from, besides the encoder's inputs: `model.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    kind: Literal["dropoutnet"] = "dropoutnet"
    options: ModelOptions
    calibration: Calibration | None = None


class Scorer:
    """A trained model, its encoder and, where its towers read them, the reference factors."""

    def __init__(
        self,
        model: DropoutNet,
        state: EncoderState,
        factors: Factors | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.model = model
        self.encoder = Encoder(state)
        self.factors = factors
        self.calibration = calibration

    @staticmethod
    def save(
        folder: str,
        model: DropoutNet,
        state: EncoderState,
        factors: Factors | None = None,
        calibration: Calibration | None = None,
    ) -> dict[str, TableEntry]:
        """Write the files under a staged folder and describe them. Equal weights make equal bytes."""
        fs, _ = fsspec.core.url_to_fs(folder)
        card = ModelCard(options=model.options, calibration=calibration)
        content = {
            "towers": weights_to_bytes(model),
            "encoder": _pretty(state.model_dump(mode="json")),
            "model": _pretty(card.model_dump(mode="json")),
        }
        if factors is not None:
            content["factors"] = factors.to_bytes()
        for table, value in content.items():
            fs.pipe_file(posixpath.join(folder, FILES[table]), value)
        return {table: file_table(folder, FILES[table]) for table in content}

    @classmethod
    def load(cls, folder: str) -> "Scorer":
        """Read what `save` wrote. Raises CorruptDatasetError where a file is missing or does not fit the others."""
        try:
            state = EncoderState.model_validate_json(_read(folder, "encoder"))
            check_format(folder)
            card = ModelCard.model_validate_json(_read(folder, "model"))
        except ValidationError as error:
            raise CorruptDatasetError(f"{folder} must hold a saved scorer, it does not: {error}; train again") from None
        model = build_dropoutnet(state.inputs, card.options, 0, state.idf)
        weights_from_bytes(model, _read(folder, "towers"), folder)
        factors = Factors.from_bytes(_read(folder, "factors"), folder) if reads_factors(state) else None
        return cls(model, state, factors, card.calibration)

    @property
    def scale(self) -> float:
        """What inner products are multiplied by."""
        return float(self.model.scale)

    @property
    def bias(self) -> float:
        """What is added: score = scale·(inner product) + bias."""
        return float(self.model.bias)

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self.model.options.tower_units[-1]

    def embed(self, side: Side, table: pa.Table, *, missing_preference: bool = False, batch_size: int = 8192) -> Floats:
        """Raw features of a side -> (n, d) vectors. `missing_preference`: as if nothing happened yet."""
        pieces = [
            self.embed_inputs(
                side, self.encoder.encode(self._with_factors(piece, side), side), missing_preference=missing_preference
            )
            for piece in (table.slice(start, batch_size) for start in range(0, table.num_rows, batch_size))
        ]
        return np.concatenate([np.zeros((0, self.dimension), np.float32), *pieces])

    def embed_inputs(
        self, side: Side, inputs: Mapping[str, npt.NDArray[Any]], *, missing_preference: bool = False
    ) -> Floats:
        """Encoded inputs of a side -> (n, d)."""
        return np.asarray(self.model.tower(side)(dict(inputs), missing_preference=missing_preference), np.float32)

    def score_pairs(self, users: Floats, items: Floats) -> Floats:
        """Logits of each row's user with its item: (n, d), (n, d) -> (n,)."""
        return np.asarray(self.scale * np.einsum("nd,nd->n", users, items) + self.bias, np.float32)

    def click_probabilities(self, scores: Floats) -> Floats:
        """Probabilities of a click, of scores of any shape: calibrated on validation rows, where that was asked for."""
        logits = scores if self.calibration is None else self.calibration.slope * scores + self.calibration.intercept
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), np.float32)

    def columns(self, side: Side) -> dict[str, ColumnType]:
        """The raw feature columns that `embed` reads, with their types."""
        return self.encoder.raw_columns(side)

    def _with_factors(self, table: pa.Table, side: Side) -> pa.Table:
        """Adds `SIDE_factor` by `SIDE_id`, where the towers read it and the table does not bring it.

        A user without one who has `user_new_items` gets what the fit would have made of these.
        """
        if self.factors is None or f"{side}_factor" in table.column_names:
            return table
        ids = table[f"{side}_id"].combine_chunks() if f"{side}_id" in table.column_names else pa.nulls(len(table))
        vectors = self.factors.of(side, ids)
        new_items = new_items_of(table) if side == "user" else None
        if new_items is not None:
            vectors = np.where(np.isnan(vectors), self.factors.fold_in(new_items), vectors)
        vectors = self.factors.scaled(side, vectors)
        return table.append_column(
            f"{side}_factor", pa.FixedSizeListArray.from_arrays(vectors.ravel(), self.factors.rank)
        )


def reads_factors(state: EncoderState) -> bool:
    """Whether the towers read reference factors."""
    return any(spec.name == "user_factor" for spec in state.inputs)


def weights_to_bytes(model: Any) -> bytes:
    """Weights by path as an .npz without pickles. NumPy gives its members a fixed date: equal weights, equal bytes."""
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **{weight.path: np.asarray(weight) for weight in model.weights})
    return out.getvalue()


def weights_from_bytes(model: Any, content: bytes, origin: str) -> None:
    """Set weights by path. Raises CorruptDatasetError where names or shapes are not the model's."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptDatasetError(
            f"{origin}: {FILES['towers']} must be an .npz, it is not ({error}); train again"
        ) from None
    wanted = {weight.path: tuple(weight.shape) for weight in model.weights}
    found = {name: array.shape for name, array in arrays.items()}
    if wanted != found:
        differing = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        raise CorruptDatasetError(
            f"{origin}: the saved weights must fit the model, {', '.join(differing[:3])} does not; train again"
        )
    for weight in model.weights:
        weight.assign(arrays[weight.path])


def check_format(folder: str) -> None:
    """Raises CorruptDatasetError where a scorer was saved by a Thaw that lays it out otherwise."""
    try:
        found = json.loads(_read(folder, "model")).get("format", FORMAT)
    except (ValueError, AttributeError):
        return  # what it is instead, reading it will say
    if found != FORMAT:
        raise CorruptDatasetError(
            f"{folder} must hold a scorer of format {FORMAT}, got {found}; read it with the Thaw that saved it, or "
            "train again"
        )


def _pretty(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def _read(folder: str, table: str) -> bytes:
    fs, _ = fsspec.core.url_to_fs(folder)
    path = posixpath.join(folder, FILES[table])
    try:
        return bytes(fs.cat_file(path))
    except FileNotFoundError:
        raise CorruptDatasetError(f"a scorer must have {path}, it is missing; train again") from None
