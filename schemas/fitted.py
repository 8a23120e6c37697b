"""State fitted on the training period alone, as plain data: cuts, priors, vocabularies, normalisers.

Everything here is held fixed by the leakage audit's metamorphic check and travels with the model.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cuts(_Frozen):
    """Train < validation < test, UTC microseconds: train is [.., validation_start), test is [test_start, end]."""

    validation_start: int
    test_start: int
    end: int
    """Largest event_time of a labelled event."""


class Fitted(_Frozen):
    """What the point-in-time join needs besides the data at hand."""

    cuts: Cuts
    priors: dict[str, float]
    """`NAME_KIND` of each smoothed statistic (`click_rate`) -> its overall value in the training period."""
    keep_share: float = 1.0
    """Share of the labelled events that become examples: those whose keyed hash, in [0, 1), lies below it."""


class InputSpec(_Frozen):
    """One array of the model's input. `ids` are int64: 0 padding or missing, 1 unknown, 2… known (or hashed, 1…).

    `floats` are float32, NaN where missing. Shape (rows, length).
    """

    name: str
    side: Literal["user", "item"]
    part: Literal["content", "preference"]
    kind: Literal["ids", "floats"]
    length: int
    table: str = ""
    """For ids: which embedding table. Inputs of one table share it: `user_recent_genres` and `item_genres` do."""
    table_size: int = 0
    """For ids: rows of that table, padding and unknown included."""
    entity: str = ""
    """For preference: whose behaviour it is, as in `preferences.entities`; a new item has none, its categories do."""
    columns: tuple[str, ...] = ()
    """Example columns that this input is made of, in order: several for `floats`, one for `ids`."""


class Normaliser(_Frozen):
    """(transform(x) - mean) / std, with std 1 where the training values are constant.

    `log1p` is sign(x)·log(1 + |x|): counts are heavy-tailed.
    """

    transform: Literal["none", "log1p"]
    mean: float
    std: float


class EncoderState(_Frozen):
    """Raw feature values -> model inputs, for both sides."""

    inputs: tuple[InputSpec, ...]
    vocabularies: dict[str, tuple[str, ...]]
    """Embedding table -> values; the value at index i has id i + 2."""
    normalisers: dict[str, Normaliser]
    """Example column -> normaliser."""
    text_buckets: int
    max_words: int
    max_values: int
