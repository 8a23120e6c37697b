"""Weights of a trained model for a new one: known values keep their rows, new ones start as in a fresh table."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.errors import ConfigError
from pipelines.models.dropoutnet import DropoutNet
from schemas.fitted import EncoderState, InputSpec

_SHAPING = ("embedding_dim", "content_units", "preference_units", "tower_units", "similarity", "pooling", "missing")
"""Options that say what weights there are, or what they mean."""


def warm_start(model: DropoutNet, state: EncoderState, trained: DropoutNet, trained_state: EncoderState) -> int:
    """Give `model`, built on `state`, the weights of `trained`. Returns how many values of vocabularies are new.

    The row of a value moves to its new id; a value that the trained model did not know keeps the row it was built
    with, which its seed says. Raises ConfigError, naming what differs, where the models do not read the same.
    """
    if differences := _differences(model, state, trained, trained_state):
        raise ConfigError(
            "a model must read what the one it starts from reads, but " + "; ".join(differences[:3]) + "; configure it "
            "alike, or leave out --from (training.start_from)"
        )
    old = {weight.path: np.asarray(weight) for weight in trained.trainable_weights}
    new_values = 0
    # What is not trained, a share of dropout, is its configuration's.
    for weight in model.trainable_weights:
        table, _, kind = weight.path.partition("/")
        value = old[weight.path]
        if kind == "rows" and table in state.vocabularies:
            value, unknown = _moved(
                np.array(weight), value, state.vocabularies[table], trained_state.vocabularies[table]
            )
            new_values += unknown
        weight.assign(value)
    return new_values


def _moved(fresh: Any, old: Any, values: tuple[str, ...], old_values: tuple[str, ...]) -> tuple[Any, int]:
    """Rows by value, row 0 that of unknown values; and how many of `values` are new."""
    place = {value: row for row, value in enumerate(old_values, 1)}
    fresh[0] = old[0]
    known = [(row, place[value]) for row, value in enumerate(values, 1) if value in place]
    if known:
        rows, old_rows = map(list, zip(*known, strict=True))
        fresh[rows] = old[old_rows]
    return fresh, len(values) - len(known)


def _differences(model: DropoutNet, state: EncoderState, trained: DropoutNet, trained_state: EncoderState) -> list[str]:
    found = []
    for name in _SHAPING:
        now, then = getattr(model.options, name, None), getattr(trained.options, name, None)
        if now != then:
            found.append(f"model.{name} was {then} and is {now}")
    specs: Mapping[str, InputSpec] = {spec.name: spec for spec in state.inputs}
    old: Mapping[str, InputSpec] = {spec.name: spec for spec in trained_state.inputs}
    found += [f"it has no input `{name}`" for name in specs if name not in old]
    found += [f"the input `{name}` is gone" for name in old if name not in specs]
    for name, spec in specs.items():
        if name in old:
            free = {"table_size"} if spec.table in state.vocabularies else set()
            free |= {"length"} if spec.kind == "ids" else set()
            now, then = (s.model_dump(exclude=free) for s in (spec, old[name]))
            found += [f"{key} of `{name}` was {then[key]} and is {now[key]}" for key in now if now[key] != then[key]]
    for column, normaliser in state.normalisers.items():
        before = trained_state.normalisers.get(column)
        if before is not None and before.transform != normaliser.transform:
            found.append(f"`{column}` was transformed by {before.transform} and is by {normaliser.transform}")
        if before is not None and bool(before.knots) != bool(normaliser.knots):
            found.append(f"content.normaliser was another one when `{column}` was fitted")
    if state.ngrams != trained_state.ngrams:
        found.append(f"content.ngrams was {trained_state.ngrams} and is {state.ngrams}")
    if set(state.idf) != set(trained_state.idf):
        found.append("content.weighting was another one")
    return found or _other_weights(model, state, trained)


def _other_weights(model: DropoutNet, state: EncoderState, trained: DropoutNet) -> list[str]:
    """Weights of another shape, or that one of the models lacks, for options that are not told apart above."""
    grows = {f"{table}/rows" for table in state.vocabularies}
    now, then = (
        {weight.path: tuple(weight.shape) for weight in m.trainable_weights if weight.path not in grows}
        for m in (model, trained)
    )
    differing = sorted(path for path in now.keys() | then.keys() if now.get(path) != then.get(path))
    return [f"the weight {path} was {then.get(path)} and is {now.get(path)}" for path in differing]
