"""State fitted on the training period alone, as plain data: cuts, priors, vocabularies, normalisers.

Everything here is held fixed by the leakage audit's metamorphic check and travels with the model.
"""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Grown(_Frozen):
    """Leaves out a field that was added later where it has its default: what was published without keeps its bytes."""

    _later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        values: dict[str, Any] = handler(self)
        return {k: v for k, v in values.items() if k not in self._later or getattr(self, k) != fields[k].default}


class Cuts(_Grown):
    """Train < validation < test, UTC microseconds: train is [.., validation_start), test is [test_start, end]."""

    validation_start: int
    test_start: int
    end: int
    """Largest event_time of a labelled event."""
    as_of: int | None = None
    """Where the log was read as of a moment: the test's labels are those closed before it."""
    _later: ClassVar[tuple[str, ...]] = ("as_of",)


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


class Normaliser(_Grown):
    """(transform(x) - mean) / std, with std 1 where the training values are constant.

    `log1p` is sign(x)·log(1 + |x|): counts are heavy-tailed.
    """

    transform: Literal["none", "log1p"]
    mean: float
    std: float
    knots: tuple[float, ...] = ()
    """Quantiles of transform(x) in even steps, smallest to largest: where there are any, x becomes its place among
    them, from -√3 to √3, which has mean 0 and standard deviation 1 too."""
    _later: ClassVar[tuple[str, ...]] = ("knots",)


class EncoderState(_Grown):
    """Raw feature values -> model inputs, for both sides."""

    inputs: tuple[InputSpec, ...]
    vocabularies: dict[str, tuple[str, ...]]
    """Embedding table -> values; the value at index i has id i + 2."""
    normalisers: dict[str, Normaliser]
    """Example column -> normaliser."""
    text_buckets: int
    max_words: int
    max_values: int
    ngrams: int = 1
    """Of a text's words: up to so many in a row are hashed as one."""
    idf: dict[str, tuple[float, ...]] = {}
    """Embedding table -> how much each id counts in a bag, from id 1 on: ln((1 + rows) / (1 + its rows)) + 1."""
    _later: ClassVar[tuple[str, ...]] = ("ngrams", "idf")
