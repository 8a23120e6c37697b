"""Which weights of a model decay: those that are multiplied with inputs."""

from typing import Any

_MULTIPLIED = ("kernel", "embeddings")
"""How Keras names what inputs are multiplied with, or what they select."""


def decaying(model: Any) -> list[Any]:
    """Kernels and embeddings; no bias, no scale or shift of a normalisation, nothing that is not trained.

    A bias that is drawn to 0 keeps the model from the classes' shares, and a normalised layer gives the same whatever
    its kernel's length, so that shrinking its scale would change what decay of the kernel leaves alone.
    """
    return [weight for weight in model.trainable_variables if weight.name.endswith(_MULTIPLIED)]


def spare_the_rest(optimizer: Any, model: Any) -> None:
    """Keep a Keras optimizer's weight decay off all that does not decay; to be called before its first step."""
    kept = {id(weight) for weight in decaying(model)}
    rest = [weight for weight in model.trainable_variables if id(weight) not in kept]
    if rest:
        optimizer.exclude_from_weight_decay(var_list=rest)
