"""What classifiers are made of, on any backend; as a program it also counts whole networks, and prints all of it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import keras
import numpy as np
from keras import ops

from pipelines.config import ClassifierLossOptions, ClassifierOptions
from pipelines.losses.classification import class_loss
from pipelines.models.classifier import build_classifier
from pipelines.models.convolutions import channel_shuffle, convolution, depthwise, normalised, pointwise
from pipelines.models.costs import cost
from pipelines.models.tricks import blur_pool, drop_path, squeeze_excitation
from pipelines.training.schedules import OneCycle, PowerCosine
from tests.pipelines.losses.cases import gradient

LOSSES = [
    class_loss(ClassifierLossOptions(label_smoothing=0.1)),
    *(
        class_loss(ClassifierLossOptions(name="multiclass_svm", form=form, squared=squared))
        for form, squared in (("weston_watkins", False), ("weston_watkins", True), ("one_vs_all", True))
    ),
]
OURS = {
    "mobilenet_v1 1.0": {},
    "mobilenet_v1 0.25": {"width": 0.25},
    "mobilenet_v2 1.0": {},
    **{f"shufflenet_v1 g={groups}": {"groups": groups} for groups in (1, 2, 3, 4, 8)},
    "shufflenet_v2 1.0": {},
    "shufflenet_v2 0.5": {"width": 0.5},
}
KERAS = {"mobilenet_v1 0.25": lambda: keras.applications.MobileNet(weights=None, alpha=0.25)}
SCHEDULES = (OneCycle(1.0, 20), PowerCosine(1.0, 20, 4, 2, 0.5))


def network():
    """Every block once."""
    image = keras.Input((6, 6, 4))
    x = normalised(convolution(image, 8, size=3, seed=1, name="a"), "relu6", name="a")
    x = channel_shuffle(pointwise(x, 8, groups=2, seed=1, name="b"), 2, name="c")
    x = blur_pool(depthwise(x, seed=1, name="d"), name="e")
    x = drop_path(squeeze_excitation(x, 4, seed=1, name="f"), 0.5, seed=1, name="g")
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


def compiled(function):
    """On JAX, where each operation of its own would be compiled by itself."""
    if keras.backend.backend() != "jax":
        return function
    import jax

    return jax.jit(function)


def every_case() -> dict[str, list]:
    """Case -> numbers."""
    draw = np.random.default_rng(0)
    model = network()
    model.set_weights([draw.uniform(0.1, 0.9, weight.shape) for weight in model.weights])
    images = draw.normal(size=(2, 6, 6, 4)).astype("float32")
    scores, labels = draw.normal(size=(5, 3)).astype("float32"), np.array([0, 1, 2, 2, 0])
    steps = np.arange(0, 24, 1.5, "float32")
    return {
        "network": np.asarray(compiled(model)(images)).tolist(),
        "slopes": gradient(lambda s: ops.stack([ops.sum(loss(s, labels)) for loss in LOSSES]), scores).tolist(),
        "rates": np.asarray(compiled(lambda at: ops.stack([of(at) for of in SCHEDULES]))(steps)).tolist(),
    }


@contextmanager
def unset_weights() -> Iterator[None]:
    """On JAX, zeros for whatever weights start as: it would compile a program for each shape that is drawn."""
    import jax

    def zeros(self, shape, dtype=None, **_):
        return jax.device_put(np.zeros(shape, "float32"))

    of = keras.initializers
    with ExitStack() as patches:
        for kind in (of.RandomNormal, of.GlorotUniform, of.Zeros, of.Ones, of.Constant):
            patches.enter_context(patch.object(kind, "__call__", zeros))
        yield


def kernels(model) -> list:
    """Shapes of the weights in their order, with the strides of the convolutions among them."""
    return [
        (getattr(layer, "strides", None), *(tuple(weight.shape) for weight in layer.weights))
        for layer in model.layers[:-1]
        if layer.weights and not isinstance(layer, keras.layers.Dense)
    ]


def every_count() -> dict[str, object]:
    """Network -> parameters and multiply-adds; whether those that Keras has too are alike."""
    counts: dict[str, object] = {}
    for name, settings in OURS.items():
        options = ClassifierOptions.model_validate({"family": name.split()[0]} | settings)
        model = build_classifier(options, (224, 224, 3), 1000, seed=1)
        counts[name] = cost(model).parameters, cost(model).multiply_adds
        if name in KERAS:
            theirs = KERAS[name]()
            counts[f"keras {name}"] = cost(theirs).parameters, cost(theirs).multiply_adds
            counts[f"same {name}"] = kernels(model) == kernels(theirs)[: len(kernels(model))]
    return counts


if __name__ == "__main__":
    with unset_weights():
        found = every_count() | every_case()
    print(json.dumps(found))
