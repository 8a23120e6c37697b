"""Values that no training row had: far off, constant, missing everywhere, unknown. Towers and gradients stay finite."""

import keras
import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import ModelOptions
from pipelines.content.encoder import FAR, Encoder
from pipelines.models.dropoutnet import build_dropoutnet
from schemas.fitted import EncoderState, InputSpec, Normaliser

OPTIONS = ModelOptions(embedding_dim=4, content_units=(6,), preference_units=(5,), tower_units=(8, 3))
STATE = EncoderState(
    inputs=(
        InputSpec(name="user_statistics", side="user", part="preference", kind="floats", length=3, entity="user",
                  columns=("user_constant", "user_clicks", "user_placed")),
        InputSpec(name="item_kind", side="item", part="content", kind="ids", length=1, table="kind", table_size=3,
                  columns=("item_kind",)),
    ),
    vocabularies={"kind": ("toys",)},
    normalisers={
        "user_constant": Normaliser(transform="none", mean=7.0, std=1.0),
        "user_clicks": Normaliser(transform="log1p", mean=1.0, std=0.5),
        "user_placed": Normaliser(transform="log1p", mean=1.0, std=0.5, knots=(0.0, 1.0, 2.0)),
    },
    text_buckets=2,
    max_words=2,
    max_values=3,
)  # fmt: skip
VALUES = {
    "huge": [1e12, -1e12, 1e300],
    "constant": [7.0, 7.0, 7.0],
    "all missing": [None, None, None],
    "infinite": [float("inf"), float("-inf"), float("nan")],
}


class Step(keras.Model):
    """A training step of the whole model, compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = build_dropoutnet(STATE.inputs, OPTIONS, 1)
        self.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")

    def call(self, x, training=False):
        return self.inner(x, training=training)["score"]


@pytest.fixture(scope="module")
def step() -> Step:
    return Step()


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_towers_and_a_training_step_stay_finite(step, values) -> None:
    users = pa.table({name: pa.array(values, pa.float64()) for name in STATE.inputs[0].columns})
    items = pa.table({"item_kind": pa.array(["toys", "never seen", None])})
    inputs = {**Encoder(STATE).encode(users, "user"), **Encoder(STATE).encode(items, "item")}
    assert np.nanmax(np.abs(inputs["user_statistics"]), initial=0) <= FAR
    assert np.isfinite(step.train_on_batch(inputs, np.array([0.0, 1.0, 1.0])))
    assert all(np.isfinite(np.asarray(weight)).all() for weight in step.inner.weights)
