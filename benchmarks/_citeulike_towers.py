"""Thaw's towers on CiteULike, in both modes: what they read, and batches of it. [keras, tf.data]

Both read a side's factors by a reference model, and content: the item's own, and of a user the mean of the items'.
There are no times here, so that a pair has to be kept out of its own inputs. *End to end*, each pair's inputs are made
without it: the mean of the user's other items, and factors fitted without its part of the pairs. *Reconstruction* looks
at no label: the factors are inputs, and the scores they give are the target (Volkovs, Yu and Poutanen, NIPS 2017).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from benchmarks._citeulike import Floats, Scores, Split, dot_scores
from benchmarks._citeulike_baselines import ridge
from benchmarks._citeulike_factors import OPTIONS, HeldOut, held_out
from pipelines.config import ModelOptions, TrainingOptions
from pipelines.models.dropoutnet import DropoutNet, build_dropoutnet
from pipelines.training.facts import facts_of
from pipelines.training.fit import fit
from schemas.fitted import InputSpec

Ints = npt.NDArray[np.int64]
CONTENT_LENGTH = 6.0
"""Of an item's or user's content, where a factor has the square root of their number: chosen on the folds."""
_EMBED_ROWS = 1024
COOLING_SEEDS = 1_000_000
"""Added to the seed, so that the last epoch has an order of its own."""


@dataclass(frozen=True)
class Recipe:
    """How a mode is trained."""

    model: ModelOptions
    training: TrainingOptions
    reconstruct: bool
    cooling: float = 0.1
    """What the rate is multiplied by for one epoch more."""
    way: float = 1.0
    """Of the way from the weights at the start to those at the end, how far to go. The start is a fair model already,
    and a better one may lie between (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022)."""


@dataclass(frozen=True)
class Sides:
    """What is known of every user and item, and of every pair's two sides without the pair."""

    split: Split
    content: Floats
    """(items, d) rows of length 1, or less where little is known."""
    user: Floats
    """(users, f) reference factors, of unit variance; zeros where there are none."""
    item: Floats
    without: HeldOut
    """The same of every pair, from fits that it had no part in."""

    @cached_property
    def sums(self) -> tuple[Floats, Floats]:
        """Of each user: the sum of the items' content (users, d), their number (users, 1)."""
        train = self.split.train
        counts = np.asarray(train.getnnz(axis=1), np.float32)[:, None]
        return np.asarray(train @ self.content, np.float32), counts


def sides_of(split: Split, content: Floats, users: Floats, items: Floats) -> Sides:
    """From the reference model's factors."""
    without = held_out(split.train, items, OPTIONS, seed=0)
    mine, theirs = (1 / part[part.any(axis=1)].std() for part in (users, items))
    scaled_without = HeldOut(without.part, without.user * mine, without.item * theirs)
    return Sides(split, content, users * mine, items * theirs, scaled_without)


def specs_of(sides: Sides) -> tuple[InputSpec, ...]:
    """What the towers read: content of the same space on both sides, and factors, which are dropped."""
    width, rank = sides.content.shape[1], sides.item.shape[1]
    return (
        _floats("user_content", "user", "content", width),
        _floats("user_factor", "user", "preference", rank),
        _floats("item_content", "item", "content", width),
        _floats("item_factor", "item", "preference", rank),
    )


def _floats(name: str, side: Any, part: Any, length: int) -> InputSpec:
    entity = side if part == "preference" else ""
    return InputSpec(name=name, side=side, part=part, kind="floats", length=length, entity=entity, columns=(name,))


@dataclass(frozen=True)
class Rows:
    """The training pairs of a split, as `fit` takes them."""

    sides: Sides
    batch_size: int
    seed: int
    reconstruct: bool

    @property
    def keys(self) -> dict[str, npt.NDArray[Any]]:
        """Of all pairs: what the losses' facts are made of."""
        pairs = self.sides.split.train.tocoo()
        return {
            "user_key": pairs.row.astype(np.int64),
            "item_key": pairs.col.astype(np.int64),
            "label": np.ones(pairs.nnz, np.float32),
        }

    def epoch(self, number: int) -> Any:
        """The tf.data.Dataset of one epoch: full batches of the shuffled pairs."""
        generator = np.random.default_rng([self.seed, number])
        train = self.sides.split.train
        # Vectors of one batch are compared with each other: they come from one fit.
        pair = generator.permutation(train.nnz) if self.reconstruct else self._part_by_part(generator)
        user, item = self.keys["user_key"][pair], self.keys["item_key"][pair]
        if self.reconstruct:
            # Half of the items are such as the reference model scores high, half are any that it knows.
            any_known = generator.choice(np.flatnonzero(train.getnnz(axis=0)), len(pair))
            item = np.where(generator.random(len(pair)) < 0.5, item, any_known)
        rows = tf.data.Dataset.from_tensor_slices((user, item, pair))
        options = tf.data.Options()
        options.autotune.enabled = False
        batches = rows.batch(self.batch_size, drop_remainder=True)
        held = self._constants
        return batches.map(lambda *keys: self._batch(held, *keys)).prefetch(2).with_options(options)

    def _part_by_part(self, generator: np.random.Generator) -> Ints:
        """Full batches, each of one part of the pairs, in any order."""
        part, size = self.sides.without.part, self.batch_size
        each = [generator.permutation(np.flatnonzero(part == number)) for number in np.unique(part)]
        batches = np.concatenate([rows[: len(rows) // size * size].reshape(-1, size) for rows in each])
        return generator.permutation(batches).ravel()

    def _batch(self, held: Mapping[str, Any], user: Any, item: Any, pair: Any) -> Any:
        own = tf.gather(held["content"], item)
        sums, count = tf.gather(held["sums"], user), tf.gather(held["counts"], user)
        if self.reconstruct:
            user_factor, item_factor = tf.gather(held["user"], user), tf.gather(held["item"], item)
        else:
            user_factor, item_factor = tf.gather(held["user"], pair), tf.gather(held["item"], pair)
            sums, count = sums - own, count - 1
        inputs = {
            "user_content": scaled(tf.where(count > 0, tf.math.l2_normalize(sums, axis=1), np.nan)),
            "user_factor": user_factor,
            "item_content": scaled(own),
            "item_factor": item_factor,
        }
        ones = tf.ones_like(user, tf.float32)
        extras = {"label": ones, "weight": ones, "user_key": user, "item_key": item}
        if self.reconstruct:
            extras |= {"user_factor": user_factor, "item_factor": item_factor}
        return inputs, extras

    @cached_property
    def _constants(self) -> Mapping[str, Any]:
        """Once in the graph's memory, not once a batch."""
        sides = self.sides
        arrays = {"content": sides.content, "sums": sides.sums[0], "counts": sides.sums[1]}
        factors = sides if self.reconstruct else sides.without
        arrays |= {"user": factors.user, "item": factors.item}
        with tf.device("CPU"):
            return {name: tf.constant(array) for name, array in arrays.items()}


def scaled(unit_rows: Any) -> Any:
    """Unit rows to the length that content has beside factors at the start."""
    return unit_rows * CONTENT_LENGTH


def train_towers(sides: Sides, recipe: Recipe, seed: int) -> Scores:
    """Fit on all training pairs for the recipe's epochs, embed everybody, and score."""
    model = build_dropoutnet(specs_of(sides), recipe.model, seed)
    start_from_ridge(model, sides)
    start = model.get_weights()
    rows = Rows(sides, recipe.training.batch_size, seed, recipe.reconstruct)
    facts = facts_of(rows.keys, recipe.training)
    fit(model, rows, None, recipe.training, seed, facts=facts)
    cool = recipe.training.model_copy(
        update={"epochs": 1, "learning_rate": recipe.training.learning_rate * recipe.cooling}
    )
    fit(model, replace(rows, seed=seed + COOLING_SEEDS), None, cool, seed, facts=facts, warm=True)
    model.set_weights([old + recipe.way * (new - old) for old, new in zip(start, model.get_weights(), strict=True)])
    return dot_scores(*embed(model, sides))


def start_from_ridge(model: DropoutNet, sides: Sides) -> None:
    """Let what stands for missing factors be their ridge map from the content: training goes on from there."""
    sums, counts = sides.sums
    profiles = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    known = (counts[:, 0] > 0, sides.split.train.getnnz(axis=0) > 0)
    for side, content, factors, there in zip(
        ("user", "item"), (profiles, sides.content), (sides.user, sides.item), known, strict=True
    ):
        tower, (width, rank) = model.tower(side), (content.shape[1], factors.shape[1])
        solved = ridge(content[there], factors[there])
        kernel = np.zeros(tower.foretell[0].kernel.shape, np.float32)
        kernel[:width, :rank] = solved[:-1] / CONTENT_LENGTH
        tower.foretell[0].kernel.assign(kernel)
        stand_in = np.zeros(tower.preferences[0].missing.shape, np.float32)
        stand_in[:rank] = solved[-1]
        tower.preferences[0].missing.assign(stand_in)


def embed(model: DropoutNet, sides: Sides) -> tuple[Floats, Floats]:
    """Vectors of every user and item from all that the training pairs say; an item without any lacks its factors."""
    sums, counts = sides.sums
    new = sides.split.train.getnnz(axis=0)[:, None] == 0
    lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    inputs = {
        "user_content": scaled(np.where(counts > 0, sums / lengths, np.nan)),
        "user_factor": np.where(counts > 0, sides.user, np.nan),
        "item_content": scaled(sides.content),
        "item_factor": np.where(new, np.nan, sides.item),
    }
    vectors = []
    for side in ("user", "item"):
        mine = {name: values.astype(np.float32) for name, values in inputs.items() if name.startswith(side)}
        parts = [
            np.asarray(model.tower(side)({name: values[start : start + _EMBED_ROWS] for name, values in mine.items()}))
            for start in range(0, len(mine[f"{side}_content"]), _EMBED_ROWS)
        ]
        vectors.append(np.concatenate(parts))
    return vectors[0], vectors[1]
