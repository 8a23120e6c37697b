"""What may be tried of each family: the usual way to train it, which is tried first, and what varies around it.

Keys are those of the section `classifier`. What is not named here stays as the configuration has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from pipelines.config import Config, SearchOptions, changed
from pipelines.models.classifier import FAMILIES

SMALL_SIDE = 48
"""Images with a shorter side up to this take the small stem: the large one would leave a pixel or two of them."""

NEAREST = "nearest"
KINDS = {
    "convolutional": ("plain", "mobilenet_v1", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2"),
    "flat": (NEAREST, "linear", "two_layer"),
}
"""Families that may be compared after a short training."""

_EPOCHS, _IMAGES, _LONGER = 8, 30_000, 5
_CROPS = (0, 2, 4)

Changes = dict[str, Any]
"""Option of `classifier` -> value."""


@dataclass(frozen=True)
class Space:
    """One family's options."""

    fixed: Changes
    """What is the same in every trial."""
    usual: Changes
    """Where the search starts: a value for each that varies."""
    varies: dict[str, BaseDistribution] = field(default_factory=dict)


def kind_of(family: str) -> str:
    """Its kind."""
    return next(kind for kind, families in KINDS.items() if family in families)


def trial_epochs(options: SearchOptions, train_rows: int) -> int:
    """Epochs of a trial.

    >>> [trial_epochs(SearchOptions(), rows) for rows in (10_000, 300)]
    [8, 100]
    """
    return options.epochs or max(_EPOCHS, -(-_IMAGES // train_rows))


def final_epochs(options: SearchOptions, train_rows: int) -> int:
    """Epochs of the last training."""
    return options.final_epochs or _LONGER * trial_epochs(options, train_rows)


def spaces(config: Config, side: int, epochs: int) -> dict[str, Space]:
    """Family -> its space, of `config.search.families`, for images whose shorter side has `side` pixels.

    The family nearest varies in nothing: cross-validation looks at all its options at once.
    """
    found: dict[str, Space] = {}
    for family in config.search.families:
        space = _SPACES[family]
        fixed = {"family": family, "epochs": epochs, "minutes": None, **space.fixed}
        if kind_of(family) == "convolutional":
            fixed["stem"] = "small" if side <= SMALL_SIDE else "large"
            if side <= max(_CROPS):
                fixed["augment.crop"] = 0
        usual, varies = ({k: v for k, v in of.items() if k not in fixed} for of in (space.usual, space.varies))
        found[family] = Space(fixed, usual, varies)
    return found


def applied(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with these options of `classifier`. Raises ConfigError where they cannot be."""
    return changed(config, {f"classifier.{key}": value for key, value in changes.items()})


def _rate(low: float, high: float) -> FloatDistribution:
    return FloatDistribution(low, high, log=True)


def _choice(*values: Any) -> CategoricalDistribution:
    return CategoricalDistribution(values)


NO_TRICKS: Changes = {"tricks.squeeze_excitation": 0, "tricks.blur_pool": False, "tricks.drop_path": 0.0}
_NO_AUGMENTATION: Changes = {
    "augment.flip": False, "augment.crop": 0, "augment.rand_augment": 0, "augment.erasing": 0.0,
    "augment.mixup": 0.0, "augment.cutmix": 0.0,
}  # fmt: skip
NOT_OF_FLAT: Changes = {**NO_TRICKS, **_NO_AUGMENTATION}
"""What a configuration may have for a network, and flat classifiers do not take or do not gain by."""
_FALLING = _choice("cosine", "one_cycle")


def _flat(varies: dict[str, BaseDistribution], usual: Changes) -> Space:
    """A classifier of flat pixels: it learns what is where, so that moving images about only confuses it."""
    return Space(
        {"optimizer.name": "adamw", **NOT_OF_FLAT},
        {"schedule.learning_rate": 1e-3, "schedule.name": "cosine", "optimizer.weight_decay": 1e-2, **usual},
        {
            "schedule.learning_rate": _rate(1e-4, 1e-2),
            "schedule.name": _FALLING,
            "optimizer.weight_decay": _rate(1e-4, 1.0),
            **varies,
        },
    )


def _convolutional(widths: tuple[float, ...], usual_width: float, residual: bool) -> Space:
    """A light network. One without residual branches cannot drop them."""
    return Space(
        {"optimizer.name": "adamw", **({} if residual else {"tricks.drop_path": 0.0})},
        {
            "schedule.learning_rate": 3e-3,
            "schedule.name": "one_cycle",
            "optimizer.weight_decay": 5e-2,
            "width": usual_width,
            "augment.flip": False,
            "augment.crop": 2,
            "augment.rand_augment": 0,
            "augment.erasing": 0.0,
            "loss.label_smoothing": 0.0,
        },
        {
            "schedule.learning_rate": _rate(5e-4, 2e-2),
            "schedule.name": _FALLING,
            "optimizer.weight_decay": _rate(1e-3, 0.5),
            "width": _choice(*widths),
            "augment.flip": _choice(False, True),
            "augment.crop": _choice(*_CROPS),
            "augment.rand_augment": _choice(0, 1, 2),
            "augment.erasing": _choice(0.0, 0.25),
            "loss.label_smoothing": _choice(0.0, 0.1),
        },
    )


_SPACES = {
    NEAREST: Space(dict(NOT_OF_FLAT), {}),
    "linear": _flat(
        {"loss.name": _choice("cross_entropy", "multiclass_svm")},
        {"loss.name": "cross_entropy"},
    ),
    "two_layer": _flat(
        {"hidden": _choice(100, 200, 400, 800), "dropout": _choice(0.0, 0.2, 0.5)}, {"hidden": 400, "dropout": 0.2}
    ),
    "plain": _convolutional((0.5, 1.0, 1.5), 1.0, residual=False),
    "mobilenet_v1": _convolutional((0.25, 0.5, 1.0), 0.25, residual=False),
    "mobilenet_v2": _convolutional((0.25, 0.5, 1.0), 0.25, residual=True),
    "shufflenet_v1": _convolutional((0.25, 0.5, 1.0), 0.5, residual=True),
    "shufflenet_v2": _convolutional((0.5, 1.0), 0.5, residual=False),
}
assert _SPACES.keys() == {NEAREST, *FAMILIES}
