"""Checkpoints: how far a training is, saved now and then, so that one that is killed goes on from there.

One is one file, `OUT/<dataset>/<key>.checkpoints/<epoch>-<step>.npz`: arrays, and plain data as JSON; nothing in it is
ever run. It appears as a whole or not at all. The folder belongs to the training's resume key, so that another
configuration, data or code has another; publishing the model removes it. One that is damaged or states another training
is passed over with a note, and the one before it is taken: nothing is ever mixed. What is in a checkpoint is `run`'s.
"""

import datetime as dt
import errno
import json
import posixpath
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from pipelines.config import CheckpointOptions
from pipelines.errors import WorkspaceError
from pipelines.storage import Workspace, make_folder, whole_file
from pipelines.training.stopping import Stopping

FORMAT = 1
_ENDING = ".npz"
_TOLD = "told"
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, TypeError, NotImplementedError, zipfile.BadZipFile)
"""What numpy and zipfile raise on a file that is short or altered."""

Shapes = Sequence[tuple[tuple[int, ...], str]]
"""Shape and type of each array."""


@dataclass(frozen=True)
class Checkpoint:
    """What is saved."""

    variables: Sequence[NDArray[Any]]
    """Of the step: weights, what the optimizer keeps, random states, metrics, in a fixed order."""
    best: Sequence[NDArray[Any]]
    """The best epoch's weights so far; none before there are any."""
    told: Mapping[str, Any]
    """All else, as plain data."""


class Checkpoints:
    """Those of one training.

    Several processes of one training all load the same ones, before the first step; one alone writes (`writes`), and
    their variables must hold the same values. A position counts batches of all processes, so that another number of
    them may go on.
    """

    def __init__(
        self, folder: str, key: str, options: CheckpointOptions, tell: Callable[[str], None], *, writes: bool = True
    ) -> None:
        self.folder, self.key, self.options, self.tell, self.writes = folder, key, options, tell, writes
        self.stopping = Stopping()
        self._steps = 0
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to save, or to stop; to be asked after each step."""
        self._steps += 1
        minutes, steps = self.options.minutes, self.options.steps
        return (
            self.stopping.asked
            or (steps is not None and self._steps >= steps)
            or (minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes)
        )

    def save(self, checkpoint: Checkpoint, epoch: int, step: int) -> bool:
        """Write it and remove those that `keep` is too few for. False, and a note, where it cannot be written."""
        self._steps = 0
        try:
            if self.writes:
                self._write(checkpoint, _name(epoch, step))
        except Exception as error:  # a training that can go on is worth more than its checkpoint
            self.tell(f"note: no checkpoint could be saved in {self.folder} ({error}); training goes on without it")
            return False
        finally:
            self._saved_at = time.monotonic()
        return self.writes

    def load(self, variables: Shapes, best: Shapes, place: tuple[int, int] | None = None) -> Checkpoint | None:
        """The latest that is whole, states this training and has arrays of these shapes; a note of each other one.

        `place`: that of this epoch and step or none. Raises WorkspaceError where one is there and storage does not give
        it: training from an earlier one would remove it.
        """
        found = [_name(*place)] if place else sorted(name for name in self._names() if name.endswith(_ENDING))
        for name in reversed(found):
            path = posixpath.join(self.folder, name)
            try:
                checkpoint = self._read(path)
                _require(_shapes(checkpoint.variables) == list(variables), "it is another model's: its shapes differ")
                _require(_shapes(checkpoint.best) in ([], list(best)), "it is another model's: its shapes differ")
            except _UNREADABLE as error:
                if _is_of_storage(error):
                    raise WorkspaceError(
                        f"the checkpoint {path} must be readable, it cannot be read now: {error}; run the same command "
                        "when it can, or remove it to go on from the one before"
                    ) from error
                self.tell(f"note: the checkpoint {path} is passed over, {error}")
            else:
                return checkpoint
        if found:
            self.tell("note: no checkpoint could be used; training starts from the beginning")
        return None

    def _write(self, checkpoint: Checkpoint, name: str) -> None:
        fs, folder = fsspec.core.url_to_fs(self.folder)
        make_folder(self.folder)
        told = {**_about(self.key), "saved_at": _now(), **checkpoint.told}
        text = json.dumps(told, allow_nan=False).encode()
        arrays: dict[str, Any] = {
            **{f"variables/{place}": value for place, value in enumerate(checkpoint.variables)},
            **{f"best/{place}": value for place, value in enumerate(checkpoint.best)},
            _TOLD: np.frombuffer(text, np.uint8),
        }
        with whole_file(posixpath.join(self.folder, name)) as file:
            np.savez(file, **arrays)
        # Later ones were passed over; what is no checkpoint is part of one that was being written at a kill.
        names = sorted(self._names())
        mine = [each for each in names if each.endswith(_ENDING) and each <= name]
        for old in set(names) - set(mine[-self.options.keep :]):
            with suppress(FileNotFoundError):
                fs.rm_file(posixpath.join(folder, old))

    def _read(self, path: str) -> Checkpoint:
        """Raises ValueError, or an error of zip files, saying what is wrong with it."""
        fs, place = fsspec.core.url_to_fs(path)
        with fs.open(place, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            told = json.loads(_array(arrays, _TOLD).tobytes())
            _require(isinstance(told, dict), "it is no checkpoint")
            for name, value in _about(self.key).items():
                _require(told.get(name) == value, f"it states {name} {told.get(name)}, this training has {value}")
            counts = [sum(name.startswith(kind) for name in arrays.files) for kind in ("variables/", "best/")]
            variables, best = (
                [_array(arrays, f"{kind}/{place}") for place in range(count)]
                for kind, count in zip(("variables", "best"), counts, strict=True)
            )
        return Checkpoint(variables, best, told)

    def _names(self) -> list[str]:
        fs, folder = fsspec.core.url_to_fs(self.folder)
        fs.invalidate_cache()
        found = fs.ls(folder, detail=False) if fs.isdir(folder) else []
        return [posixpath.basename(path) for path in found]


def checkpoints_of(
    workspace: Workspace,
    dataset: str,
    key: str,
    options: CheckpointOptions,
    tell: Callable[[str], None],
    *,
    writes: bool = True,
) -> Checkpoints | None:
    """Those of a version in the making, under its resume key; None without one."""
    return Checkpoints(workspace.checkpoints(dataset, key), key, options, tell, writes=writes) if key else None


def _name(epoch: int, step: int) -> str:
    return f"{epoch:06d}-{step:09d}{_ENDING}"


def _is_of_storage(error: BaseException) -> bool:
    """Whether a file that is there could not be read, by right or for the moment; damage shows in other errors."""
    if not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
        return False
    # A damaged directory of a zip file makes zipfile seek before the beginning: EINVAL.
    return isinstance(error, TimeoutError | ConnectionError) or error.errno not in (None, errno.EINVAL)


def _about(key: str) -> dict[str, Any]:
    """What a checkpoint must state to be of this training. The key has configuration, data and Thaw's own code."""
    import keras

    backend = keras.backend.backend()
    versions = {name: version(name) for name in ("keras", backend)}
    return {"format": FORMAT, "key": key, **versions}


def _array(arrays: Any, name: str) -> NDArray[Any]:
    array = arrays[name]
    _require(isinstance(array, np.ndarray), f"{name} is no array")  # numpy gives bytes for what it does not know
    return array  # type: ignore[no-any-return]


def _shapes(arrays: Sequence[NDArray[Any]]) -> list[tuple[tuple[int, ...], str]]:
    return [(array.shape, array.dtype.name) for array in arrays]


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
