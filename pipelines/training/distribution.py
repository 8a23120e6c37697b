"""How devices and processes are arranged, and what they do for a step together. Nothing else knows.

A batch is one global batch, whatever it is shared by: each part of its rows goes through the towers where it lies, and
the losses see all of it. So N processes do the arithmetic of one, but for rounding.

On JAX there is one program for all devices: rows are sharded, weights lie on every device, and the compiler puts the
communication in. On TensorFlow each process runs its own program on one device and calls the collective operations
here. What follows from equal numbers, such as when to stop, is then decided alike everywhere.

A batch that is short, the last one of an epoch, is gathered and done as a whole by everybody.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ConfigError
from pipelines.models.rows import Part
from pipelines.training.rendezvous import Meeting

ROWS = "rows"
"""Among the extras of a batch that processes share: how many rows all have together. (A scalar.)"""
TIMEOUT_S = 3600.0
"""For a collective operation: a process that is lost is noticed by others means, long before."""


class Devices(Protocol):
    """Of one process: which part of each batch is its own, and how it works with the others."""

    index: int
    """This process."""
    processes: int
    parts: int
    """Devices of all processes: a batch has so many equal parts."""

    def place(self, tree: Any, shared: bool) -> Any:
        """Arrays of this process's rows to what a compiled step takes; `shared`: as parts, else whole everywhere."""

    def replicate(self, value: Any) -> Any:
        """A weight, equal everywhere, as a compiled step takes it."""

    def local(self, value: Any) -> Any:
        """A weight that a step gave back, as one process alone can go on with it."""

    def part(self) -> Any:
        """A context: rows within are this process's part, for what is drawn by row."""

    def own(self, tree: Any) -> Any:
        """In a step: of whole rows those that go through the network here."""

    def gather(self, tree: Any) -> Any:
        """In a step: all rows of arrays by name of which each process has its part; gradients go back to the parts.

        What a process then computes of all rows, every process computes: `mean` of its gradients is the gradient.
        """

    def mean(self, gradients: Sequence[Any]) -> Sequence[Any]:
        """In a step: the mean over processes, None staying None."""

    def looked_up(self, places: Sequence[Any], gradients: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """In a step: look-ups of all processes, and the gradients of what they took."""

    def replicated(self, call: Any) -> Any:
        """Within a step of TensorFlow: a function as it runs in each process, whose layers may ask the others."""

    def synchronized(self, model: Any) -> Any:
        """A context: batch norm within takes the statistics of all rows."""

    def compiled(self, step: Any) -> Any:
        """jax.jit of (state, inputs, extras) -> state, or a tuple with it."""

    def everyones(self, local: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(k,) bytes -> (processes, k), outside a step; k is the same everywhere."""

    def close(self) -> None:
        """Leave the others, at the same time as they do."""


class Alone:
    """One process, one device: nothing to do."""

    index, processes, parts = 0, 1, 1

    def place(self, tree: Any, shared: bool) -> Any:
        """As it is."""
        return tree

    def replicate(self, value: Any) -> Any:
        """A copy, because a step takes the memory of what it is given."""
        return value.copy()

    def local(self, value: Any) -> Any:
        """As it is."""
        return value

    def part(self) -> Any:
        """All rows."""
        return Part(0, 1)

    def own(self, tree: Any) -> Any:
        """All."""
        return tree

    def gather(self, tree: Any) -> Any:
        """As it is."""
        return tree

    def replicated(self, call: Any) -> Any:
        """As it is."""
        return call

    def synchronized(self, model: Any) -> Any:
        """They are there."""
        return nullcontext()

    def mean(self, gradients: Sequence[Any]) -> Sequence[Any]:
        """As they are."""
        return gradients

    def looked_up(self, places: Sequence[Any], gradients: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """As they are."""
        return places, gradients

    def compiled(self, step: Any) -> Any:
        """One program for one device."""
        import jax

        return jax.jit(step, donate_argnums=0)

    def everyones(self, local: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One process's."""
        return local[None]

    def close(self) -> None:
        """Nobody to leave."""


ALONE = Alone()


class JaxDevices(Alone):
    """`each` devices of every process, one program: arrays are global, and the compiler communicates."""

    def __init__(self, index: int, processes: int, each: int) -> None:
        import jax
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        self.jax = jax
        self.index, self.processes, self.parts = index, processes, processes * each
        of = [[device for device in jax.devices() if device.process_index == place] for place in range(processes)]
        least = min(map(len, of))
        if each > least:
            raise ConfigError(
                f"--devices must be at most the devices of a process, got {each}, there are {least} "
                f"({jax.default_backend()}); set fewer"
            )
        mesh = Mesh(np.array([device for mine in of for device in mine[:each]]), ("rows",))
        self.everywhere, self.by_row = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("rows"))

    def place(self, tree: Any, shared: bool) -> Any:
        """Global arrays; where rows do not divide among the devices, all on each."""

        def placed(values: Any) -> Any:
            values = np.asarray(values)
            by_row = shared and values.ndim and len(values) % (self.parts // self.processes) == 0
            if not by_row:
                return self.replicate(values)
            whole = (len(values) * self.processes, *values.shape[1:])
            return self.jax.make_array_from_process_local_data(self.by_row, self._narrow(values), whole)

        return self.jax.tree.map(placed, tree)

    def replicate(self, value: Any) -> Any:
        """On every device."""
        value = self._narrow(np.asarray(value))
        return self.jax.make_array_from_callback(value.shape, self.everywhere, lambda at: value[at])

    def local(self, value: Any) -> Any:
        """This process's own copy."""
        return value.addressable_data(0)

    def gather(self, tree: Any) -> Any:
        """All rows on every device: what the losses do with them is small."""
        return self.jax.lax.with_sharding_constraint(tree, self.everywhere)

    def looked_up(self, places: Sequence[Any], gradients: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """The rows that were looked up go to every device; without this, whole tables would."""
        whole: tuple[Sequence[Any], Sequence[Any]] = self.gather((list(places), list(gradients)))
        return whole

    def compiled(self, step: Any) -> Any:
        """One program for all devices; what comes of it lies on every device."""
        return self.jax.jit(step, donate_argnums=0, out_shardings=self.everywhere)

    def everyones(self, local: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """By a collective of JAX's own."""
        from jax.experimental.multihost_utils import process_allgather

        return np.asarray(process_allgather(local)).reshape(self.processes, -1)

    def close(self) -> None:
        """At the end of Python JAX would wait for the others."""
        if self.processes > 1:
            self.jax.distributed.shutdown()

    def _narrow(self, values: Any) -> Any:
        """As wide as JAX has them, as its own steps do."""
        return values.astype(self.jax.dtypes.canonicalize_dtype(values.dtype), copy=False)


class TensorflowProcesses(Alone):
    """Processes with a device each, and their own program each: the collective operations are called here.

    MultiWorkerMirroredStrategy starts the servers, and synchronises batch norm; Keras's `fit` fails under it.
    """

    def __init__(self, index: int, addresses: Sequence[str], local_index: int | None) -> None:
        import tensorflow as tf

        self.tf = tf
        self.index, self.processes, self.parts = index, len(addresses), len(addresses)
        gpus = tf.config.list_physical_devices("GPU")
        if gpus and local_index is not None:
            if local_index >= len(gpus):
                raise ConfigError(
                    f"each process must have a GPU of its own, got {self.processes} processes and {len(gpus)} GPUs; "
                    "set fewer --processes"
                )
            tf.config.set_visible_devices([gpus[local_index]], "GPU")
        elif len(gpus) > 1:
            tf.config.set_visible_devices(gpus[:1], "GPU")
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(addresses)}), task_type="worker", task_id=index, rpc_layer="grpc"
        )
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        # Operations that share a resource run in the order of the program, hence in one order everywhere.
        self.order = tf.Variable(0.0, trainable=False).handle
        self.made = 0
        self.bytes = tf.function(self._all, autograph=False)

    def place(self, tree: Any, shared: bool) -> Any:
        """As it is: a process has its rows."""
        return tree

    def part(self) -> Any:
        """This process's."""
        return Part(self.index, self.processes)

    def own(self, tree: Any) -> Any:
        """This process's."""
        return part_of(tree, self)

    def replicated(self, call: Any) -> Any:
        """Under the strategy, which Keras's own synchronised layers ask."""
        return lambda *given: self.strategy.run(call, given)

    @contextmanager
    def synchronized(self, model: Any) -> Iterator[None]:
        """Within, by Keras's own option; a saved model does not have it."""
        layers = [one for one in model._flatten_layers() if isinstance(one, keras.layers.BatchNormalization)]
        for layer in layers:
            layer.synchronized = True
        try:
            yield
        finally:
            for layer in layers:
                layer.synchronized = False

    def gather(self, tree: Any) -> Any:
        """All in one operation."""
        tf = self.tf

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def gathered(*parts: Any) -> Any:
            whole = self._whole(parts)

            def gradient(*upstream: Any) -> Any:
                own = [slice(self.index * part.shape[0], (self.index + 1) * part.shape[0]) for part in parts]
                return [
                    grad[rows] * self.processes if part.dtype.is_floating else None
                    for grad, rows, part in zip(upstream, own, parts, strict=True)
                ]

            return whole, gradient

        return tf.nest.pack_sequence_as(tree, gathered(*tf.nest.flatten(tree)))

    def mean(self, gradients: Sequence[Any]) -> Sequence[Any]:
        """All in one operation."""
        tf = self.tf
        there = [gradient for gradient in gradients if gradient is not None]
        flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in there], 0)
        total = tf.raw_ops.CollectiveReduceV2(
            input=flat, merge_op="Add", final_op="Id", timeout_seconds=TIMEOUT_S, **self._call()
        )
        parts = iter(tf.split(total / self.processes, [gradient.shape.num_elements() for gradient in there]))
        return [None if gradient is None else tf.reshape(next(parts), gradient.shape) for gradient in gradients]

    def looked_up(self, places: Sequence[Any], gradients: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """All in one operation."""
        used = [number for number, gradient in enumerate(gradients) if gradient is not None]
        parts = [places[n] for n in used] + [self.tf.cast(gradients[n], "float32") / self.processes for n in used]
        whole = self._whole(parts) if used else []
        found = dict(zip(used, zip(whole[: len(used)], whole[len(used) :], strict=True), strict=True))
        taken = [found.get(number, (place, None)) for number, place in enumerate(places)]
        return [place for place, _ in taken], [gradient for _, gradient in taken]

    def everyones(self, local: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """As words, which the operation knows."""
        words = np.zeros(-(-len(local) // 4) * 4, np.uint8)
        words[: len(local)] = local
        found = self.bytes(self.tf.constant(words.view(np.int32)[None]))
        whole: NDArray[np.uint8] = np.ascontiguousarray(found.numpy()).view(np.uint8)[:, : len(local)]
        return whole

    def _whole(self, parts: Sequence[Any]) -> list[Any]:
        """Of each array, which has as many rows everywhere: all rows, in the processes' order."""
        tf = self.tf
        flat = [_words(tf, part) for part in parts]
        split = tf.split(self._all(tf.concat(flat, 1)), [one.shape[1] for one in flat], axis=1)
        return [_unwords(tf, words, part) for words, part in zip(split, parts, strict=True)]

    def _all(self, rows: Any) -> Any:
        found = self.tf.raw_ops.CollectiveGatherV2(input=rows, timeout_seconds=TIMEOUT_S, **self._call())
        return self.tf.ensure_shape(found, [self.processes * rows.shape[0], *rows.shape[1:]])

    def _call(self) -> dict[str, Any]:
        """What makes an operation the same one in every process: programs are traced in the same order everywhere."""
        self.made += 1
        return {
            "group_size": self.processes,
            "group_key": 1_000_003,
            "instance_key": 1_000_000 + self.made,
            "ordering_token": [self.order],
            "communication_hint": "auto",
        }


def check_asked(each: int | None) -> None:
    """Raises ConfigError where the backend cannot use so many devices in a process, or is none of those we know."""
    backend = keras.backend.backend()
    if each is not None and each < 1:
        raise ConfigError(f"--devices must be at least 1, got {each}; leave it out for one")
    if backend not in ("jax", "tensorflow"):
        raise ConfigError(f"training must run on TensorFlow or JAX, got {backend}; set KERAS_BACKEND to one of them")
    if backend == "tensorflow" and each not in (None, 1):
        raise ConfigError(
            f"on TensorFlow a process has one device, got --devices {each}; set --processes {each} instead, each takes "
            "a GPU of its own, or KERAS_BACKEND=jax"
        )


def open_devices(meeting: Meeting | None, each: int | None = None, local_index: int | None = None) -> Devices:
    """Start the backend's communication among the processes that have met, before it does anything else.

    `each`: devices of a process, JAX's alone. `local_index`: this process among those of its host, where they were
    started here; it takes its share of the cores, or the GPU of that number. Raises ConfigError for what the backend
    cannot do, or the machine does not have.
    """
    check_asked(each)
    if meeting is None:
        return ALONE if each in (None, 1) else JaxDevices(0, 1, each or 1)
    place, addresses = meeting.place, meeting.told["addresses"]
    if local_index is not None:
        take_cores(local_index, place.processes)
    if keras.backend.backend() == "tensorflow":
        return TensorflowProcesses(place.index, addresses, local_index)
    import jax

    mine = each or 1
    jax.distributed.initialize(
        addresses[0],
        place.processes,
        place.index,
        local_device_ids=None if local_index is None else list(range(local_index * mine, (local_index + 1) * mine)),
        initialization_timeout=int(max(place.wait_s, 30)),
        # When Python ends, after an error, for others that have ended.
        shutdown_timeout_seconds=15,
    )
    try:
        return JaxDevices(place.index, place.processes, mine)
    except RuntimeError as error:  # how JAX says that a GPU of such a number is not there
        raise ConfigError(
            f"each process must have devices of its own, got {place.processes} processes with {mine} each, and JAX "
            f"says: {error}; set fewer --processes or --devices"
        ) from error


def take_cores(index: int, of: int) -> None:
    """Keep this process, and the threads that it will start, to its share of the cores, where there are enough."""
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) >= of > 1:
            os.sched_setaffinity(0, cores[index * len(cores) // of : (index + 1) * len(cores) // of])


def check_divides(parts: int, name: str, value: int) -> None:
    """Raises ConfigError where so many rows cannot be shared in equal parts."""
    if value % parts:
        raise ConfigError(
            f"`{name}` must be a multiple of the processes times their devices, got {value} and {parts}; "
            f"set {name} to {-(-value // parts) * parts}, for example"
        )


def part_of(tree: Any, devices: Devices) -> Any:
    """Of whole rows, outside a step or on TensorFlow within: this process's equal part."""
    if devices.processes == 1:
        return tree
    if isinstance(tree, Mapping):
        return {name: part_of(values, devices) for name, values in tree.items()}
    if isinstance(tree, tuple):
        return tuple(part_of(values, devices) for values in tree)
    each = tree.shape[0] // devices.processes
    return tree[devices.index * each : (devices.index + 1) * each]


def agreed(devices: Devices, values: Mapping[str, float]) -> dict[str, float]:
    """Process 0's, by the same names: what all decide by, also where machines round differently."""
    if devices.processes == 1:
        return dict(values)
    mine = np.array([values[name] for name in values], np.float64)
    first = np.ascontiguousarray(devices.everyones(mine.view(np.uint8))[0]).view(np.float64)
    return {name: float(value) for name, value in zip(values, first, strict=True)}


def rows_of(extras: Mapping[str, Any]) -> int:
    """Rows of a whole batch, of which this process may have a part."""
    return int(extras[ROWS]) if ROWS in extras else int(extras["label"].shape[0])


def summed(devices: Devices, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) -> (n,), the sum over processes, equal to the bit everywhere."""
    if devices.processes == 1:
        return values
    everyone = devices.everyones(np.ascontiguousarray(values).view(np.uint8))
    total: NDArray[np.float64] = np.ascontiguousarray(everyone).view(np.float64).sum(axis=0)
    return total


def whole_batch(devices: Devices, tree: Any, most: int) -> Any:
    """Arrays of each process's rows, `most` at most, as they differ in number -> all rows, in the processes' order."""
    if devices.processes == 1:
        return tree
    leaves: list[tuple[dict[str, Any], str, NDArray[Any]]] = []

    def walk(mine: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, values in mine.items():
            if isinstance(values, Mapping):
                found[name] = walk(values)
            else:
                leaves.append((found, name, np.asarray(values)))
        return found

    whole = walk(tree)
    packed = [np.array([len(leaves[0][2])], np.int64).view(np.uint8)]
    for _, _, values in leaves:
        padded = np.zeros((most, *values.shape[1:]), values.dtype)
        padded[: len(values)] = values
        packed.append(padded.reshape(-1).view(np.uint8))
    everyone = devices.everyones(np.concatenate(packed))
    counts, at = np.ascontiguousarray(everyone[:, :8]).view(np.int64)[:, 0], 8
    for found, name, values in leaves:
        size = most * values[:0].itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
        rows = np.ascontiguousarray(everyone[:, at : at + size]).view(values.dtype)
        rows = rows.reshape(devices.processes, most, *values.shape[1:])
        found[name] = np.concatenate([some[:count] for some, count in zip(rows, counts, strict=True)])
        at += size
    return whole


def _words(tf: Any, values: Any) -> Any:
    """Values of 32 or 64 bits -> (1, words), as float32, which GPUs keep where it is."""
    return tf.reshape(values if values.dtype == tf.float32 else tf.bitcast(values, tf.float32), [1, -1])


def _unwords(tf: Any, words: Any, like: Any) -> Any:
    """(processes, words) -> (processes·rows, …) of the type of `like` (rows, …)."""
    wide = [2] if like.dtype.size == 8 else []
    values = tf.reshape(words, [words.shape[0] * like.shape[0], *like.shape[1:], *wide])
    return values if like.dtype == tf.float32 else tf.bitcast(values, like.dtype)
