"""What is minimised: a model and its losses as one Keras model, for `fit` to train on any backend.

Batches are (inputs by name, extras), where extras hold `label`, `weight`, `user_key` and `item_key`, each (n,), and of
a reference model, if there is one, `target` (n,) or `user_factor` and `item_factor` (n, f). With items
drawn from the catalogue there are `minute` (n,) and DRAWN.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from pipelines.config import LossOptions
from pipelines.losses.batch import Batch, Catalogue
from pipelines.losses.registry import weighted_losses
from pipelines.models.blocks import derived_seed
from pipelines.training.facts import Facts

DRAWN = "negatives"
"""Name of what batches of drawn items hold besides: among the inputs those of the items, among the extras their
`item_key` and `exists_from`. It sorts behind inputs of items: Keras takes a batch's size from the first input."""


class Means(keras.metrics.Metric):  # type: ignore[misc]
    """The mean of each loss over all rows: one variable, because each small operation of a step counts."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(name="means")
        self.names = tuple(names)
        self.sums = self.add_variable((len(self.names) + 1,), initializer="zeros", name="sums")

    def update_state(self, values: Sequence[Any], rows: Any) -> None:
        """Add a batch's means, over so many rows."""
        self.sums.assign_add(ops.stack([*values, 1.0]) * rows)

    def result(self) -> dict[str, Any]:
        """By name; 0 before any row."""
        return {name: self.sums[place] / ops.maximum(self.sums[-1], 1.0) for place, name in enumerate(self.names)}


class Objective(keras.Model):  # type: ignore[misc]
    """The weighted sum of the losses of a two-tower model, with each part and the validation AUC.

    Training draws other shifts for every batch, evaluation the same ones every time: validation losses of two epochs
    differ by the weights alone.
    """

    def __init__(self, model: Any, options: LossOptions, *, seed: int, facts: Facts | None = None) -> None:
        super().__init__(name="objective")
        self.model = model
        self.options = options
        self.facts = facts or Facts()
        self.parts = weighted_losses(options)
        self.evaluation_seed = derived_seed(seed, "evaluation")
        self.randomness = keras.random.SeedGenerator(derived_seed(seed, "losses"))
        self.means = Means(list(self.parts))
        self.auc = keras.metrics.AUC(num_thresholds=2001, from_logits=True, name="auc")

    @property
    def both_labels(self) -> bool:
        """Whether the AUC's rows so far had both labels: without, it has no value and Keras says 0."""
        # At the lowest threshold every row is called positive.
        return float(self.auc.true_positives[0]) > 0 and float(self.auc.false_positives[0]) > 0

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        """What the model says; with drawn items among the inputs, their vectors too."""
        said = self.model({name: values for name, values in inputs.items() if name != DRAWN}, training=training)
        if DRAWN in inputs:
            said = {**said, DRAWN: self.model.item_tower(inputs[DRAWN], training=training)}
        return said

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Weighted sum of the parts; updates the metrics as it goes."""
        batch = Batch(
            user=y_pred["user"],
            item=y_pred["item"],
            scale=self.model.scale,
            bias=self.model.bias,
            label=ops.cast(y["label"], "float32"),
            weight=ops.cast(y["weight"], "float32"),
            user_key=y["user_key"],
            item_key=y["item_key"],
            target=y.get("target"),
            user_factor=y.get("user_factor"),
            item_factor=y.get("item_factor"),
            time=y.get("minute"),
            catalogue=Catalogue(y_pred[DRAWN], **y[DRAWN]) if DRAWN in y_pred else None,
            known=self.facts.known if training else None,
            frequencies=self.facts.frequencies if training else self.facts.held_out,
        )
        seed = self.randomness if training else self.evaluation_seed
        rows = ops.cast(ops.shape(batch.label)[0], "float32")
        values = [loss(batch, self.options, seed) for _, loss in self.parts.values()]
        self.means.update_state(values, rows)
        if not training:
            self.auc.update_state(batch.label, y_pred["score"], sample_weight=batch.weight)
        return sum(weight * value for (weight, _), value in zip(self.parts.values(), values, strict=True))

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Metrics so far: they were updated with the loss."""
        return self.get_metrics_result()
