"""The losses of classifiers by name, a family apart from those of the towers: one label a row, one score a class."""

import difflib
from collections.abc import Callable
from typing import Any

from pipelines.config import ClassifierLossOptions
from pipelines.errors import ConfigError
from pipelines.losses.cross_entropy import cross_entropy
from pipelines.losses.multiclass_svm import multiclass_svm

ClassLoss = Callable[[Any, Any], Any]
"""((n, C) scores, (n,) class numbers) -> (n,)."""

_SETTINGS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "cross_entropy": (cross_entropy, ("label_smoothing",)),
    "multiclass_svm": (multiclass_svm, ("margin", "squared", "form")),
}
"""Name -> loss, and those of the options that it reads."""

CLASS_LOSSES = tuple(_SETTINGS)


def class_loss(options: ClassifierLossOptions) -> ClassLoss:
    """The loss that is configured. Raises ConfigError, with the nearest name, where there is none.

    A row mixed of two (MixUp, CutMix) costs their losses in the same shares.
    """
    if options.name not in _SETTINGS:
        near = difflib.get_close_matches(options.name, CLASS_LOSSES, n=1, cutoff=0.3)
        hint = f"did you mean `{near[0]}`?" if near else f"use {' or '.join(CLASS_LOSSES)}"
        raise ConfigError(f"a classifier's loss must be one of {', '.join(CLASS_LOSSES)}, got `{options.name}`; {hint}")
    loss, names = _SETTINGS[options.name]
    settings = {name: getattr(options, name) for name in names}

    def per_row(scores: Any, labels: Any) -> Any:
        return loss(scores, labels, **settings)

    return per_row
