"""A classifier as it is saved, loaded and asked: uint8 images in, probabilities and content vectors out.

A network is one `.keras` file, which Keras loads without Thaw; nearest neighbours are an `.npz` of what they remember.
How either comes about is left to training.
"""

import hashlib
import io
import json
import posixpath
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import keras
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from pipelines.errors import ConfigError, CorruptDatasetError
from pipelines.models.nearest import NearestNeighbours, load_nearest
from pipelines.storage import file_table
from schemas.classifier import CLASSIFIER_FILES, FORMAT, ClassifierState
from schemas.manifest import TableEntry

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

SHARED = "shared_object_id"

BATCH = 256
"""Rows that a network is given at a time."""


class SavedClassifier:
    """A trained classifier and what it takes."""

    def __init__(self, state: ClassifierState, model: Any) -> None:
        """`model`: Keras's, whose layer `features` makes content vectors, or `NearestNeighbours`."""
        self.state, self.model = state, model
        self._whole: Any = None

    @property
    def length(self) -> int:
        """Of a content vector; 0 of nearest neighbours, which make none."""
        if isinstance(self.model, NearestNeighbours):
            return 0
        return int(self.model.get_layer("features").output.shape[1])

    def save(self, folder: str) -> dict[str, TableEntry]:
        """Write the files under a staged folder and describe them. Equal weights make equal bytes."""
        fs, _ = fsspec.core.url_to_fs(folder)
        table = "neighbours" if isinstance(self.model, NearestNeighbours) else "classifier"
        state = json.dumps(self.state.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
        content = {table: model_file(self.model)[1], "state": state.encode()}
        for name, value in content.items():
            fs.pipe_file(posixpath.join(folder, CLASSIFIER_FILES[name]), value)
        return {name: file_table(folder, CLASSIFIER_FILES[name]) for name in content}

    @classmethod
    def load(cls, folder: str) -> "SavedClassifier":
        """Read what `save` wrote. Raises CorruptDatasetError where a file is missing or is something else."""
        try:
            raw = json.loads(_read(folder, "state"))
            if raw.get("format") != FORMAT:
                raise CorruptDatasetError(
                    f"{folder} must hold a classifier of format {FORMAT}, got {raw.get('format')}; read it with the "
                    "Thaw that saved it, or train again"
                )
            state = ClassifierState.model_validate(raw)
        except (ValueError, AttributeError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise CorruptDatasetError(f"{folder} must hold a classifier, it does not: {reason}; train again") from None
        table = "neighbours" if state.family == "nearest" else "classifier"
        content, name = _read(folder, table), CLASSIFIER_FILES[table]
        with tempfile.TemporaryDirectory() as here:
            # Keras reads local files alone.
            file = Path(here) / name
            file.write_bytes(content)
            if table == "neighbours":
                return cls(state, load_nearest(file))
            try:
                return cls(state, keras.saving.load_model(file, compile=False, safe_mode=True))
            except Exception as error:  # a damaged file is met by zipfile, json, h5py and Keras, each with its own
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise CorruptDatasetError(f"{folder}: {name} cannot be loaded: {reason}; train again") from None

    def probabilities(self, images: Images) -> Floats:
        """(n, h, w, c) -> (n, C): the softmax of the scores, of nearest neighbours the shares of votes."""
        if isinstance(self.model, NearestNeighbours):
            self._check(images)
            return self.model.shares(images)
        return self.both(images)[0]

    def features(self, images: Images) -> Floats:
        """(n, h, w, c) -> (n, d) content vectors. Raises ConfigError of nearest neighbours, which make none."""
        return self.both(images)[1]

    def both(self, images: Images) -> tuple[Floats, Floats]:
        """Probabilities and features in one pass. Raises what `features` does."""
        if isinstance(self.model, NearestNeighbours):
            raise ConfigError(
                "content vectors must come from a network, got a classifier of the family nearest; set "
                "classifier.family, and train again"
            )
        self._check(images)
        if self._whole is None:
            scores = self.model.get_layer("scores").output
            features = self.model.get_layer("features").output
            self._whole = keras.Model(self.model.input, [keras.layers.Softmax(dtype="float32")(scores), features])
        found = in_batches(
            lambda some: np.concatenate([np.asarray(part) for part in self._whole.predict_on_batch(some)], axis=1),
            images,
            BATCH,
        )
        classes = len(self.state.classes)
        return found[:, :classes], found[:, classes:]

    def _check(self, images: Images) -> None:
        if images.dtype != np.uint8 or images.shape[1:] != self.state.shape:
            raise ConfigError(
                f"images must be uint8 of the shape that the classifier takes, {self.state.shape}, got "
                f"{images.dtype} {images.shape[1:]}; fit them as its `resize` ({self.state.resize}) says"
            )


def in_batches(function: Callable[[Any], Any], rows: Any, batch_size: int) -> Floats:
    """What `function` makes of all rows, (n, d), asked for `batch_size` at a time.

    The last batch is filled up, so that a row's result does not depend on how many others came with it. `rows`: an
    array, or arrays by name.
    """
    named = isinstance(rows, dict)
    count = len(next(iter(rows.values()))) if named else len(rows)

    def batch(values: Any, start: int) -> Any:
        if not count:
            return np.zeros((batch_size, *values.shape[1:]), values.dtype)
        return values[np.minimum(np.arange(start, start + batch_size), count - 1)]

    parts = []
    for start in range(0, max(count, 1), batch_size):
        some = {name: batch(values, start) for name, values in rows.items()} if named else batch(rows, start)
        parts.append(np.asarray(function(some), np.float32)[: max(count - start, 0)])
    return np.concatenate(parts)


def weights_digest(model: Any) -> str:
    """SHA-256 of what was learned."""
    near = isinstance(model, NearestNeighbours)
    hasher = hashlib.sha256()
    for values in (model.vectors, model.labels) if near else model.weights:
        hasher.update(np.ascontiguousarray(values).tobytes())
    return hasher.hexdigest()


def model_file(model: Any) -> tuple[str, bytes]:
    """Name and content of the file that a network, or nearest neighbours, are saved as."""
    if isinstance(model, NearestNeighbours):
        return CLASSIFIER_FILES["neighbours"], _saved(model.save, ".npz")
    return CLASSIFIER_FILES["classifier"], keras_file(model)


def keras_file(model: Any) -> bytes:
    """A model as the bytes of a `.keras` file, which say nothing of the time: equal models, equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_saved(model.save, ".keras"))) as saved, zipfile.ZipFile(out, "w") as kept:
        for name in sorted(saved.namelist()):
            content = saved.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "date_saved": "1980-01-01@00:00:00"}).encode()
            elif name == "config.json":
                content = json.dumps(_numbered(json.loads(content), {})).encode()
            kept.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def _numbered(config: Any, seen: dict[int, int]) -> Any:
    """A configuration whose shared objects are counted: Keras names them by where they lie in memory."""
    if isinstance(config, list):
        return [_numbered(one, seen) for one in config]
    if not isinstance(config, dict):
        return config
    return {
        name: seen.setdefault(value, len(seen)) if name == SHARED and value is not None else _numbered(value, seen)
        for name, value in config.items()
    }


def _saved(save: Callable[[Any], None], ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"saved{ending}"
        save(file)
        return file.read_bytes()


def _read(folder: str, table: str) -> bytes:
    fs, _ = fsspec.core.url_to_fs(folder)
    path = posixpath.join(folder, CLASSIFIER_FILES[table])
    try:
        return bytes(fs.cat_file(path))
    except FileNotFoundError:
        raise CorruptDatasetError(f"a classifier must have {path}, it is missing; train again") from None
