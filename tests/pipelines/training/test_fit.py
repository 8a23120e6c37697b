"""Fitting: learns what is planted, repeats itself to the bit, keeps the best epoch, and says what went wrong."""

import io

import numpy as np
import pytest
import tensorflow as tf

from pipelines.config import LossOptions, ModelOptions, TrainingOptions
from pipelines.errors import InputError
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.training.computing import precision
from pipelines.training.fit import MONITOR, base_rate, fit, logit
from pipelines.training.progress import Progress
from schemas.fitted import InputSpec

MODEL = ModelOptions(embedding_dim=4, content_units=(), preference_units=(), tower_units=(16, 8))
TRAINING = TrainingOptions(batch_size=64, epochs=3, learning_rate=0.01, losses=LossOptions(num_negatives=5))
POINTWISE = TRAINING.model_copy(update={"losses": LossOptions(softmax=0)})
SPECS = (
    InputSpec(name="user_likes", side="user", part="content", kind="ids", length=1, table="user_likes", table_size=8),
    InputSpec(name="item_kind", side="item", part="content", kind="ids", length=1, table="kind", table_size=8),
    InputSpec(name="item_statistics", side="item", part="preference", kind="floats", length=1),
)


class Held:
    """Rows in memory: a user clicks on an item of the kind that they like, and on little else."""

    def __init__(self, rows=1000, seed=0, **extras) -> None:
        draw = np.random.default_rng(seed)
        likes, kind = draw.integers(2, 8, (2, rows, 1))
        label = (draw.random(rows) < np.where(likes == kind, 0.8, 0.05)[:, 0]).astype("float32")
        inputs = {"user_likes": likes, "item_kind": kind, "item_statistics": draw.normal(size=(rows, 1))}
        inputs["item_statistics"] = inputs["item_statistics"].astype("float32")
        keys = {"user_key": np.arange(rows) // 2, "item_key": draw.integers(0, 50, rows) + 2**61}
        self.batch = inputs, {"label": label, "weight": np.ones(rows, "float32"), **keys, **extras}

    def epoch(self, number):
        return tf.data.Dataset.from_tensor_slices(self.batch).batch(64)


def fitted(train, validation=None, training=TRAINING, seed=5, **more):
    model = build_dropoutnet(SPECS, MODEL, seed)
    return model, fit(model, train, validation, training, seed, **more)


def test_planted_tastes_are_learned() -> None:
    _, history = fitted(Held(3000), Held(1000, seed=1), TRAINING.model_copy(update={"epochs": 8}))
    assert history.best.metrics["validation_auc"] > 0.85


def test_the_same_seed_makes_the_same_weights_to_the_bit() -> None:
    first, same = (fitted(Held(), Held(200, seed=1)) for _ in range(2))
    assert first[1].to_json() == same[1].to_json()
    assert all(np.array_equal(a, b) for a, b in zip(first[0].get_weights(), same[0].get_weights(), strict=True))


def test_the_best_epoch_is_kept_and_patience_ends_the_fit() -> None:
    # Validation labels are turned round: the better the fit, the worse the validation.
    validation = Held(300, seed=1)
    validation.batch[1]["label"] = 1 - validation.batch[1]["label"]
    training = TRAINING.model_copy(update={"epochs": 9, "patience": 2, "learning_rate": 0.02})
    seen = []
    model, history = fitted(Held(), validation, training, on_epoch=seen.append)
    losses = [epoch.metrics[MONITOR] for epoch in history.epochs]
    assert history.best_epoch == int(np.argmin(losses)) + 1
    assert len(losses) == history.best_epoch + 2 < 9
    assert tuple(seen) == history.epochs
    again, _ = fitted(Held(), validation, training.model_copy(update={"epochs": history.best_epoch}))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))


def test_all_decide_by_what_process_0_measured(monkeypatch) -> None:
    monkeypatch.setattr("pipelines.training.fit.agreed", lambda devices, metrics: dict.fromkeys(metrics, 7.0))
    _, history = fitted(Held(64), Held(64, seed=1), TRAINING.model_copy(update={"epochs": 2}))
    assert history.best_epoch == 1 and set(history.epochs[1].metrics.values()) == {7.0}


def test_without_validation_rows_every_epoch_is_run_and_the_last_kept() -> None:
    _, history = fitted(Held(200), training=POINTWISE.model_copy(update={"patience": 0}))
    assert (len(history.epochs), history.best_epoch) == (3, 3)
    assert set(history.epochs[0].metrics) == {"loss", "pointwise"}


def test_a_validation_loss_that_measures_nothing_keeps_the_last_epoch_and_says_so(capsys) -> None:
    # The softmax is over positives alone, and there is none.
    nothing = Held(100, label=np.zeros(100, "float32"))
    training = TRAINING.model_copy(update={"losses": LossOptions(pointwise=0), "patience": 1})
    _, history = fitted(Held(200), nothing, training)
    assert history.epochs[0].metrics[MONITOR] == 0
    assert (len(history.epochs), history.best_epoch) == (3, 3)
    said = capsys.readouterr().err
    assert said.count("note: the validation rows measure nothing") == 1 and "the last one kept" in said


def test_the_bias_starts_at_the_weighted_share_of_positives() -> None:
    rows = Held(200, label=np.array([1, 0, 0, 0] * 50, "float32"), weight=np.array([3, 1, 1, 1] * 50, "float32"))
    assert base_rate(rows.epoch(0)) == (pytest.approx(0.5), 64)
    assert logit(0.25) == pytest.approx(np.log(1 / 3))
    assert np.isfinite([logit(0), logit(1)]).all()


def test_labels_that_are_all_equal_train_without_a_fuss() -> None:
    same = Held(100, label=np.zeros(100, "float32"))
    model, history = fitted(same, same)
    assert "validation_loss" in history.epochs[0].metrics
    assert "validation_auc" not in history.epochs[0].metrics
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_loss_that_is_not_finite_is_explained() -> None:
    with pytest.raises(
        InputError, match=r"got nan in epoch 1 at step 1; lower training\.learning_rate.*user_key 0 item_key"
    ):
        fitted(Held(100, weight=np.full(100, np.nan, "float32")), training=POINTWISE)


def test_mixed_precision_trains_and_leaves_a_float32_model() -> None:
    options = POINTWISE.model_copy(update={"epochs": 2, "precision": "mixed_bfloat16"})
    model, history = fitted(Held(640), training=options)
    exact, _ = fitted(Held(640), training=POINTWISE.model_copy(update={"epochs": 2}))
    assert history.epochs[1].metrics["loss"] < history.epochs[0].metrics["loss"]
    assert any(not np.array_equal(a, b) for a, b in zip(model.get_weights(), exact.get_weights(), strict=True))
    assert all(weight.dtype == np.float32 for weight in model.get_weights())
    assert model({**Held(2).batch[0]})["score"].dtype == tf.float32
    with precision(model, "mixed_bfloat16"):
        scores = model({**Held(640).batch[0]})["score"].numpy()
    assert scores.dtype == np.float32 and len(np.unique(scores)) > 600, "rounded scores tie, and the AUC is wrong"


def test_rows_without_weight_are_explained() -> None:
    with pytest.raises(InputError, match="weight above 0"):
        fitted(Held(100, weight=np.zeros(100, "float32")))


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        progress = Progress(2, stream)
        progress.start(1)
        progress.advance(64, 0.0)
        progress.line("epoch done")
    assert "step 1 " in terminal.getvalue() and "examples/s  input 0%" in terminal.getvalue()
    assert file.getvalue() == "epoch done\n"
