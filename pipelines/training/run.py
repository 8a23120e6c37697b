"""How far a training is, from its first step to its last, whatever it trains: what a checkpoint holds, and one pass."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import LostError, StoppedError
from pipelines.training.checkpoints import Checkpoint, Checkpoints, Shapes
from pipelines.training.distribution import ALONE, Devices
from pipelines.training.history import Epoch
from pipelines.training.progress import Progress
from pipelines.training.stateful import Stateful


@dataclass(frozen=True)
class Best:
    """The best epoch so far."""

    rank: tuple[float, ...] = (-math.inf,)
    """The larger, the better."""
    epoch: int = 0
    weights: Sequence[NDArray[Any]] = ()


@dataclass
class Run:
    """How far a training is. Beside the step's variables, all that it goes on from."""

    number: int = 1
    """The epoch at hand, from 1, …"""
    step: int = 0
    """… its steps that are done, …"""
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    """… what they told, added up, …"""
    seconds: float = 0.0
    """… how long they took, …"""
    waited: float = 0.0
    """… and how long of that they waited for input."""
    epochs: list[Epoch] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    started: float = field(default_factory=time.monotonic)
    """When it would have been started, had it never been interrupted."""

    def finish(self, epoch: Epoch) -> None:
        """Note what came of the epoch at hand, and go to the next."""
        self.epochs.append(epoch)
        self.number, self.step, self.sums, self.seconds, self.waited = epoch.number + 1, 0, np.zeros(1), 0.0, 0.0

    def saved(self, variables: Sequence[Any]) -> Checkpoint:
        """With the step's variables, as a checkpoint."""
        told = {
            "number": self.number,
            "step": self.step,
            "sums": self.sums.tolist(),
            "seconds": self.seconds,
            "waited": self.waited,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best": [list(self.best.rank), self.best.epoch] if self.best.epoch else None,
            "elapsed": time.monotonic() - self.started,
        }
        return Checkpoint([np.asarray(variable) for variable in variables], self.best.weights, told)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "Run":
        """What `saved` saved."""
        told, best = checkpoint.told, checkpoint.told["best"]
        return cls(
            told["number"],
            told["step"],
            np.array(told["sums"]),
            told["seconds"],
            told["waited"],
            [Epoch(**epoch) for epoch in told["epochs"]],
            Best(tuple(best[0]), best[1], checkpoint.best) if best else Best(),
            time.monotonic() - told["elapsed"],
        )


@contextmanager
def resumed(checkpoints: Checkpoints | None, step: Stateful, model: Any, devices: Devices = ALONE) -> Iterator[Run]:
    """The run that the latest checkpoint holds, its variables put back, or a new one.

    Within, a signal to stop is noted, for `save_if_due` to act on, and at the end for this. Raises LostError where a
    process of `devices` does not find what process 0 does.
    """
    if checkpoints is None:
        yield Run()
        return
    # Of several processes the one that writes stops, and the others with it.
    with checkpoints.stopping if checkpoints.writes else nullcontext():
        found = _found(checkpoints, _shapes(step.variables), _shapes(model.weights), devices)
        if found is None:
            run = Run()
        else:
            for variable, value in zip(step.variables, found.variables, strict=True):
                variable.assign(value)
            run = Run.of(found)
            checkpoints.tell(
                f"note: training goes on in epoch {run.number} after step {run.step}, as saved "
                f"{found.told['saved_at']} UTC"
            )
        yield run
        # The last epoch is done, and nothing behind it would ask.
        if checkpoints.stopping.asked:
            _save(run, checkpoints, step)


def _found(checkpoints: Checkpoints, variables: Shapes, best: Shapes, devices: Devices) -> Checkpoint | None:
    """The checkpoint that process 0 takes, in every process: what others list may be older than what it lists."""
    found = None if devices.index else checkpoints.load(variables, best)
    taken = devices.everyones(_place(found))[0]
    number, step = (int(value) for value in np.ascontiguousarray(taken).view(np.int64))
    if devices.index and number:
        found = checkpoints.load(variables, best, (number, step))
    if (devices.everyones(_place(found)) != taken).any():
        raise LostError(
            "all processes of a training must go on from one checkpoint, some do not find the one of process 0; give "
            "them one --out that all of them see alike, and run the same command again"
        )
    return found


def _place(found: Checkpoint | None) -> NDArray[np.uint8]:
    place = [found.told["number"], found.told["step"]] if found else [0, 0]
    return np.array(place, np.int64).view(np.uint8)


def save_if_due(run: Run, checkpoints: Checkpoints | None, step: Stateful) -> None:
    """To be called between epochs. Raises StoppedError where the training was asked to stop."""
    if checkpoints is not None and checkpoints.is_due():
        _save(run, checkpoints, step)


def _save(run: Run, checkpoints: Checkpoints, step: Stateful) -> None:
    step.settle()
    is_saved = checkpoints.save(run.saved(step.variables), run.number, run.step)
    if asked := checkpoints.stopping.signal:
        where = f"in epoch {run.number} after step {run.step}"
        kept = f"{where}, which is saved: the same command goes on from there" if is_saved else f"{where}, not saved"
        raise StoppedError(f"training was stopped by {asked.name} {kept}", 128 + asked)


def one_pass(
    run: Run,
    batches: Iterable[Any],
    train: Callable[[Any], Any],
    read: Callable[[int, Any, Any], NDArray[np.float64]],
    step: Stateful,
    progress: Progress,
    size: Callable[[Any], int],
    checkpoints: Checkpoints | None,
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Do the steps that are left of the epoch at hand, or until `is_over`; `batches` are those behind `run.step`.

    `train` starts a step on a batch; `read(step, batch, told)` gives what it told as numbers to be added up.
    """
    started = time.monotonic() - run.seconds
    progress.start(run.number, run.step)
    following = iter(batches)
    pending: tuple[int, Any, Any] | None = None
    while True:
        asked = time.monotonic()
        batch = next(following, None)
        run.waited += time.monotonic() - asked
        told = None if batch is None else train(batch)
        # What a step told is read when the next one is under way: a backend that works ahead need not wait for this.
        if pending is not None:
            run.sums = run.sums + read(*pending)
        if batch is None:
            break
        pending = (run.step, batch, told)
        run.step += 1
        progress.advance(size(batch), run.waited)
        if checkpoints is not None and checkpoints.is_due():
            run.sums, pending = run.sums + read(*pending), None
            run.seconds = time.monotonic() - started
            _save(run, checkpoints, step)
        if is_over():
            following = iter(())
    step.settle()
    run.seconds = max(time.monotonic() - started, 1e-9)


def _shapes(variables: Sequence[Any]) -> list[tuple[tuple[int, ...], str]]:
    return [(tuple(variable.shape), str(variable.dtype)) for variable in variables]
