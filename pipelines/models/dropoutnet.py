"""DropoutNet, end to end: two towers that read content and behaviour, and learn what to do when behaviour is missing.

After Volkovs, Yu and Poutanen (DropoutNet, NIPS 2017), trained on interactions directly instead of on a factor model's
scores. What the scores are trained for is left to `pipelines.losses`, the fitting to `pipelines.training`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipelines.config import ModelOptions
from pipelines.errors import ConfigError
from pipelines.models.bags import Bag
from pipelines.models.blocks import BagMean, Fields, Mlp, Preference, Table, derived_seed, unit
from pipelines.models.dropout import DropoutShare
from pipelines.models.linear_path import linear_starts
from pipelines.models.rows import uniform_rows
from schemas.content import Side
from schemas.fitted import InputSpec

RAW_IDS = ("user_id", "item_id")
"""Embedding tables that no content input may read: an id says nothing of what is new."""
INITIAL_SCALE = {"cosine": 8.0, "dot": 1.0}
"""A cosine of 64 dimensions starts within about ±0.3: times 8, scores start within a few logits. Lengths that are
learned need no factor."""


class Tower(keras.Model):  # type: ignore[misc]
    """One side's inputs to a vector, of length 1 where the model's similarity is the cosine."""

    def __init__(
        self,
        side: Side,
        specs: Sequence[InputSpec],
        bag: Callable[[InputSpec], Any],
        options: ModelOptions,
        *,
        seed: int,
    ) -> None:
        super().__init__(name=side)
        model_seed, seed = seed, derived_seed(seed, side)
        content = [spec for spec in specs if spec.part == "content"]
        preference = [spec for spec in specs if spec.part == "preference"]
        self.content: Any = None
        if content:
            self.content = Fields(content, bag, options.content_units, seed=seed, name="content")
        # One part an entity: of a new item nothing is known, of its categories much, and dropout has to show that too.
        self.preferences = []
        for entity in dict.fromkeys(spec.entity for spec in preference):
            mine = [spec for spec in preference if spec.entity == entity]
            name = f"preference_{entity.replace('.', '_')}"
            fields = Fields(mine, bag, options.preference_units, seed=derived_seed(seed, name), name="fields")
            width = options.preference_units[-1] if options.preference_units else _width(mine, options)
            dropout = DropoutShare(options.preference_dropout, options.preference_dropout_end, name="dropout")
            zero = options.missing == "zero"
            self.preferences.append(
                Preference(fields, width, dropout, options.field_dropout, seed=seed, name=name, zero=zero)
            )
        foretold = self.preferences if content and options.foretell else []
        self.foretell = [
            keras.layers.Dense(preference.width, use_bias=False, kernel_initializer="zeros", name=f"foretell_{place}")
            for place, preference in enumerate(foretold)
        ]
        self.side_dropout = options.side_dropout
        self.randomness = keras.random.SeedGenerator(derived_seed(seed, "side_dropout"))
        self.mlp = Mlp(options.tower_units, seed=seed, name="mlp", linear_end=True, zero_start=options.linear_path)
        self.linear = []
        if options.linear_path:
            values = [_values(content, options.content_units, options)] if content else []
            for preference in self.preferences:
                part = _values(preference.fields.specs, options.preference_units, options)
                values.append(part if preference.zero else np.append(part, False))
            # The seed of the model, not of the side: equal parts start with equal maps.
            self.linear = linear_starts(values, options.tower_units[-1], derived_seed(model_seed, "linear"))
        self.normalise = options.similarity == "cosine"

    def call(self, inputs: Mapping[str, Any], training: bool = False, missing_preference: Any = False) -> Any:
        """Arrays by input name -> (n, last of tower_units).

        `missing_preference` takes every row for one without history: what content alone says.
        """
        parts = []
        if self.content is not None:
            parts.append(self.content(inputs))
        if training and self.side_dropout > 0 and self.preferences:
            rows = ops.shape(inputs[self.preferences[0].fields.specs[0].name])[0]
            coin = uniform_rows(rows, 1, self.randomness)
            missing_preference = ops.logical_or(coin < self.side_dropout, missing_preference)
        said = {"training": training, "missing_preference": missing_preference}
        for place, preference in enumerate(self.preferences):
            foretold = self.foretell[place](parts[0]) if self.foretell else 0.0
            parts.append(preference(inputs, **said, foretold=foretold))
        vectors = self.mlp(ops.concatenate(parts, axis=1))
        for linear, part in zip(self.linear, parts, strict=bool(self.linear)):
            vectors = vectors + linear(part)
        return unit(vectors) if self.normalise else vectors


class DropoutNet(keras.Model):  # type: ignore[misc]
    """Both towers; score = scale·(inner product) + bias, a logit. `scale` is learned as a logarithm, and positive."""

    def __init__(
        self, inputs: Sequence[InputSpec], options: ModelOptions, weights: Mapping[str, Sequence[float]], *, seed: int
    ) -> None:
        super().__init__(name="dropoutnet")
        self.specs = tuple(inputs)
        self.options = options
        self.tables = {
            name: Table(size, options.embedding_dim, seed=seed, name=name) for name, size in _table_sizes(inputs)
        }

        def bag(spec: InputSpec) -> Any:
            table, weight = self.tables[spec.table], weights.get(spec.table)
            if weight is None and (options.pooling == "mean" or spec.length == 1):
                return BagMean(table, name=spec.name)
            return Bag(table, options.pooling, weight, name=spec.name)

        of_side = {side: [spec for spec in inputs if spec.side == side] for side in ("user", "item")}
        self.user_tower = Tower("user", of_side["user"], bag, options, seed=seed)
        self.item_tower = Tower("item", of_side["item"], bag, options, seed=seed)
        self.log_scale = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(INITIAL_SCALE[options.similarity])),
            autocast=False,
            name="log_scale",
        )
        self.bias = self.add_weight(shape=(), initializer="zeros", autocast=False, name="bias")

    @property
    def scale(self) -> Any:
        """What inner products are multiplied by."""
        return ops.exp(self.log_scale)

    def at(self, progress: float) -> None:
        """Set what changes while training goes on, for an epoch: 0 the first, 1 the last."""
        for tower in (self.user_tower, self.item_tower):
            for preference in tower.preferences:
                preference.dropout.at(progress)

    def tower(self, side: Side) -> Any:
        """The tower of a side."""
        return self.user_tower if side == "user" else self.item_tower

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Arrays by input name -> `user` and `item` (n, d), `score` (n,)."""
        user = self.user_tower(inputs, training=training)
        item = self.item_tower(inputs, training=training)
        # In float32 whatever the layers compute in: scores that were rounded would tie.
        product = ops.sum(ops.cast(user, "float32") * ops.cast(item, "float32"), axis=-1)
        return {"user": user, "item": item, "score": self.scale * product + self.bias}


def build_dropoutnet(
    inputs: Sequence[InputSpec],
    options: ModelOptions,
    seed: int,
    weights: Mapping[str, Sequence[float]] | None = None,
) -> DropoutNet:
    """A built model: equal arguments, equal weights. Raises ConfigError where the inputs cannot make one.

    `weights` has, for embedding tables whose ids do not all count alike, how much each does (`EncoderState.idf`).
    """
    for spec in inputs:
        if spec.part == "content" and spec.table in RAW_IDS:
            raise ConfigError(
                f"content must not hold raw ids, {spec.name} reads the table `{spec.table}`; "
                "list the column under preferences.recent, or leave it out"
            )
    for side in ("user", "item"):
        if not any(spec.side == side for spec in inputs):
            raise ConfigError(
                f"each side must have an input, the {side} side has none; "
                f"add {side} content columns to source.{side}s or `{side}` to preferences.entities"
            )
    if not options.tower_units:
        raise ConfigError("`model.tower_units` must name at least one width, got []; the last is the embedding's size")
    model = DropoutNet(inputs, options, weights or {}, seed=seed)
    model(empty_rows(inputs, rows=1))
    return model


def empty_rows(inputs: Sequence[InputSpec], rows: int) -> dict[str, np.ndarray[Any, Any]]:
    """Rows of which nothing is known: ids 0, numbers NaN."""
    return {
        spec.name: np.zeros((rows, spec.length), "int64")
        if spec.kind == "ids"
        else np.full((rows, spec.length), np.nan, "float32")
        for spec in inputs
    }


def _table_sizes(inputs: Sequence[InputSpec]) -> list[tuple[str, int]]:
    sizes: dict[str, int] = {}
    for spec in inputs:
        if spec.kind == "ids" and sizes.setdefault(spec.table, spec.table_size) != spec.table_size:
            raise ConfigError(
                f"inputs of one embedding table must agree on its size, `{spec.table}` is said to have "
                f"{sizes[spec.table]} and {spec.table_size} rows; fit the encoder again"
            )
    return list(sizes.items())


def _values(specs: Sequence[InputSpec], units: Sequence[int], options: ModelOptions) -> NDArray[np.bool_]:
    """Of each column of `Fields`, whether it holds a value: False for the masks beside numbers."""
    if units:
        return np.ones(units[-1], bool)
    embedding = np.ones(options.embedding_dim, bool)
    return np.concatenate(
        [embedding if spec.kind == "ids" else np.repeat([True, False], spec.length) for spec in specs]
    )


def _width(specs: Sequence[InputSpec], options: ModelOptions) -> int:
    """Width of concatenated fields: an embedding for ids, value and mask for each number."""
    return sum(options.embedding_dim if spec.kind == "ids" else 2 * spec.length for spec in specs)
