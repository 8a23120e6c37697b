"""The losses by name. Each weight in `training.losses` that is above 0 switches one on."""

import difflib

from pipelines.config import LossOptions
from pipelines.errors import ConfigError
from pipelines.losses.batch import Loss
from pipelines.losses.pairwise import pairwise
from pipelines.losses.pointwise import pointwise
from pipelines.losses.reconstruction import reconstruction
from pipelines.losses.softmax_mined import softmax_mined
from pipelines.losses.support_vector import support_vector

LOSSES: dict[str, Loss] = {
    "pointwise": pointwise,
    "softmax": softmax_mined,
    "support_vector": support_vector,
    "pairwise": pairwise,
    "reconstruction": reconstruction,
}
"""Name of the weight in the configuration -> loss."""


def loss_named(name: str) -> Loss:
    """The loss of that name. Raises ConfigError, with the nearest name, where there is none."""
    if name not in LOSSES:
        near = difflib.get_close_matches(name, LOSSES, n=1, cutoff=0.3)
        hint = f"did you mean `{near[0]}`?" if near else f"use {' or '.join(LOSSES)}"
        raise ConfigError(f"a loss must be one of {', '.join(LOSSES)}, got `{name}`; {hint}")
    return LOSSES[name]


def weighted_losses(options: LossOptions) -> dict[str, tuple[float, Loss]]:
    """Losses that are switched on, with their weights. Raises ConfigError where none is."""
    weights: dict[str, float] = {name: getattr(options, name) for name in LOSSES}
    chosen = {name: (weight, loss_named(name)) for name, weight in weights.items() if weight > 0}
    if not chosen:
        raise ConfigError("at least one loss must have a weight above 0; set training.losses.pointwise, for example")
    return chosen
