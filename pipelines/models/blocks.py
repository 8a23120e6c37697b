"""Layers that turn a side's raw inputs into vectors, with a learned value for whatever is missing.

Written with `keras.ops` alone, so that they run on any backend. How blocks make a tower is left to `dropoutnet`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from itertools import groupby
from typing import Any, ClassVar

import keras
from keras import ops

from pipelines.models.dropout import DropoutShare, drop_fields
from pipelines.models.rows import uniform_rows
from schemas.fitted import InputSpec


def derived_seed(seed: int, *names: str) -> int:
    """A seed of its own for each purpose: a keyed hash, so that adding a layer leaves the others' values alone."""
    key = hashlib.blake2b("/".join(names).encode(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(key, "big") % (2**31 - 1)


class Lookups:
    """Within, every look-up of a table is noted, for an optimizer that moves only the rows that were looked up.

    Gradients are those of what was taken, not of the table. TensorFlow's tape gives them as it is; JAX differentiates
    by an argument, so each look-up adds the next of `probes`, zeros of its shape, which have the same gradient.
    """

    current: ClassVar[ContextVar[Any]] = ContextVar("lookups", default=None)

    def __init__(self, probes: Sequence[Any] | None = None) -> None:
        self.probes = probes
        self.seen: list[tuple[Any, Any, Any]] = []
        """(rows variable, places, what was taken) of each."""

    def __enter__(self) -> "Lookups":
        self._token = Lookups.current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        Lookups.current.reset(self._token)

    def note(self, rows: Any, places: Any, taken: Any) -> Any:
        """What was taken, so that it has a gradient of its own."""
        if self.probes is not None:
            taken = taken + self.probes[len(self.seen)]
        self.seen.append((rows, places, taken))
        return taken


class Table(keras.layers.Layer):  # type: ignore[misc]
    """A category embedding that several inputs may share. Id 0 is padding: it has no row and reads as zeros."""

    def __init__(self, size: int, width: int, *, seed: int, name: str) -> None:
        super().__init__(name=name)
        self.width = width
        # Rows start about as long as a normalised number is large: near zero they would be slow to be noticed.
        start = keras.initializers.RandomNormal(stddev=width**-0.5, seed=derived_seed(seed, name))
        # Not cast as a whole in mixed precision, where only the rows of a batch are needed.
        self.rows = self.add_weight(shape=(size - 1, width), initializer=start, autocast=False, name="rows")
        self.built = True

    def call(self, ids: Any) -> Any:
        """(n, length) ids -> (n, width), the sum of their rows."""
        read = self.each(ids)
        return ops.squeeze(read, 1) if ids.shape[1] == 1 else ops.sum(read, axis=1)

    def each(self, ids: Any) -> Any:
        """(n, length) ids -> (n, length, width), their rows."""
        # Padding takes the first row, times 0: a table with a row of zeros before it would be copied at every step.
        known = ops.expand_dims(ops.not_equal(ids, 0), 2)
        return ops.cast(self.at(ops.maximum(ids - 1, 0)), self.compute_dtype) * ops.cast(known, self.compute_dtype)

    def at(self, places: Any) -> Any:
        """Places of any shape, id 1 having place 0 -> (…, width), their rows as they are stored."""
        taken = ops.take(self.rows, places, axis=0)
        lookups = Lookups.current.get()
        return taken if lookups is None else lookups.note(self.rows, places, taken)


class Mlp(keras.layers.Layer):  # type: ignore[misc]
    """Dense layers with ReLU; the last one linear where `linear_end`. No units: the input itself.

    `zero_start`: the last one starts at zero, and so does what it gives.
    """

    def __init__(
        self, units: Sequence[int], *, seed: int, name: str, linear_end: bool = False, zero_start: bool = False
    ) -> None:
        super().__init__(name=name)
        last = len(units) - 1
        self.denses = [
            keras.layers.Dense(
                width,
                activation=None if linear_end and depth == last else "relu",
                kernel_initializer="zeros"
                if zero_start and depth == last
                else keras.initializers.GlorotUniform(derived_seed(seed, name, str(depth))),
                name=f"dense_{depth}",
            )
            for depth, width in enumerate(units)
        ]

    def call(self, x: Any) -> Any:
        """(n, width) -> (n, last of units)."""
        for dense in self.denses:
            x = dense(x)
        return x


class BagMean(keras.layers.Layer):  # type: ignore[misc]
    """The mean embedding of a row's ids; a learned vector for a row of zeros, which has none."""

    def __init__(self, table: Any, *, name: str) -> None:
        super().__init__(name=name)
        self.table = table
        self.missing = self.add_weight(shape=(table.width,), initializer="zeros", name="missing")
        self.built = True

    def call(self, ids: Any) -> Any:
        """(n, length) ids, 0 for padding -> (n, width)."""
        count = ops.sum(ops.cast(ops.not_equal(ids, 0), self.compute_dtype), axis=1, keepdims=True)
        return ops.where(count > 0, self.table(ids) / ops.maximum(count, 1), ops.convert_to_tensor(self.missing))


class Numbers(keras.layers.Layer):  # type: ignore[misc]
    """Numbers beside a mask of which are missing; a learned number stands for each that is NaN.

    The mask is 0 where all is known, so that the usual row does not start with a large constant.
    """

    def build(self, values_shape: Any) -> None:
        """Make the numbers that stand for missing ones."""
        self.missing = self.add_weight(shape=(values_shape[1],), initializer="zeros", name="missing")

    def call(self, values: Any) -> Any:
        """(n, length), NaN for missing -> (n, 2·length)."""
        missing = ops.logical_not(ops.isfinite(values))
        return ops.concatenate(
            [ops.where(missing, ops.convert_to_tensor(self.missing), values), ops.cast(missing, self.compute_dtype)],
            axis=1,
        )


class Fields(keras.layers.Layer):  # type: ignore[misc]
    """All inputs of one part (a side's content, an entity's preference), as one vector per row."""

    def __init__(
        self,
        specs: Sequence[InputSpec],
        bag: Callable[[InputSpec], Any],
        units: Sequence[int],
        *,
        seed: int,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self.specs = tuple(specs)
        self.readers = [bag(spec) if spec.kind == "ids" else Numbers(name=spec.name) for spec in specs]
        self.mlp = Mlp(units, seed=derived_seed(seed, name), name="mlp")

    def call(self, inputs: Mapping[str, Any]) -> Any:
        """Arrays by input name -> (n, last of units)."""
        read = []
        for single, run in groupby(zip(self.specs, self.readers, strict=True), key=_is_single):
            pairs = list(run)
            if single:
                read.append(_read_singles([inputs[spec.name] for spec, _ in pairs], [bag for _, bag in pairs]))
            else:
                read += [reader(inputs[spec.name]) for spec, reader in pairs]
        return self.mlp(ops.concatenate(read, axis=1))

    def nothing_known(self, inputs: Mapping[str, Any]) -> Any:
        """(n, 1) True where every number is NaN and every id 0."""
        known = [
            ops.any(ops.not_equal(inputs[s.name], 0) if s.kind == "ids" else ops.isfinite(inputs[s.name]), axis=1)
            for s in self.specs
        ]
        return ops.expand_dims(ops.logical_not(ops.any(ops.stack(known), axis=0)), 1)


def _is_single(field: tuple[InputSpec, Any]) -> bool:
    """Whether an input is one id a row, whose embedding no pooling changes."""
    spec, reader = field
    return type(reader) is BagMean and spec.length == 1


def _read_singles(ids: Sequence[Any], bags: Sequence[Any]) -> Any:
    """Of f inputs (n, 1): what each `BagMean` reads, side by side (n, f·width).

    Looked up each in its table, and the rest done for all at once: f times as many small operations cost a step more.
    """
    joined = ops.concatenate(ids, axis=1)
    places = ops.maximum(joined - 1, 0)
    taken = ops.stack([bag.table.at(places[:, place]) for place, bag in enumerate(bags)], axis=1)
    missing = ops.concatenate([ops.expand_dims(bag.missing, 0) for bag in bags])
    known = ops.expand_dims(ops.not_equal(joined, 0), 2)
    read = ops.where(known, ops.cast(taken, missing.dtype), missing)
    return ops.reshape(read, (-1, len(bags) * bags[0].table.width))


class Preference(keras.layers.Layer):  # type: ignore[misc]
    """One entity's preference part, or a learned vector where it is missing: by nature, by dropout, or on request.

    The values that are there are not rescaled for those that were dropped: missing is a state of its own, and a mask
    bit says so. Hence a warm row looks alike in training and in serving. (Volkovs, Yu, Poutanen: DropoutNet, NIPS 2017,
    drops to zero instead: `zero` does so, without the bit, from which the next layer would learn a vector of its own.)
    """

    def __init__(
        self,
        fields: Fields,
        width: int,
        dropout: DropoutShare,
        field_dropout: float = 0.0,
        *,
        seed: int,
        name: str,
        zero: bool = False,
    ) -> None:
        super().__init__(name=name)
        self.fields = fields
        self.width = width
        self.zero = zero
        self.dropout = dropout
        self.field_dropout = field_dropout
        self.field_randomness = keras.random.SeedGenerator(derived_seed(seed, name, "field_dropout"))
        self.randomness = keras.random.SeedGenerator(derived_seed(seed, name, "dropout"))
        self.start = keras.initializers.RandomNormal(stddev=0.1, seed=derived_seed(seed, name, "missing"))

    def build(self, inputs_shape: Any) -> None:
        """Make the vector that stands for the whole part."""
        if self.zero:
            return
        self.missing = self.add_weight(shape=(self.width,), initializer=self.start, name="missing")

    def call(
        self,
        inputs: Mapping[str, Any],
        training: bool = False,
        missing_preference: Any = False,
        foretold: Any = 0.0,
    ) -> Any:
        """Arrays by input name -> (n, width + 1); without a mask (n, width).

        `missing_preference` is one for all rows, or (n, 1). `foretold`, (n, width) or 0, is added to what stands for a
        missing part.
        """
        if training and self.field_dropout > 0:
            inputs = drop_fields(inputs, self.fields.specs, self.field_dropout, self.field_randomness)
        # What training never shows is not read in serving either: untrained layers would make noise of it.
        asked = True if self.dropout.is_total else missing_preference
        missing = ops.logical_or(self.fields.nothing_known(inputs), asked)
        if training and self.dropout.is_used:
            coin = uniform_rows(ops.shape(missing)[0], 1, self.randomness)
            missing = ops.logical_or(missing, coin < self.dropout.value)
        if self.zero:
            return ops.where(missing, foretold, self.fields(inputs))
        value = ops.where(missing, ops.convert_to_tensor(self.missing) + foretold, self.fields(inputs))
        return ops.concatenate([value, ops.cast(missing, self.compute_dtype)], axis=1)


def unit(x: Any) -> Any:
    """Rows at length 1; a row of zeros stays zero, with a finite gradient."""
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-12))
