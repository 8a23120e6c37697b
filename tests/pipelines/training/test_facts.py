"""Constants of a training run, and that training has them while validation has not."""

import numpy as np
import pytest
from keras import ops

from pipelines.config import LossOptions, TrainingOptions
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.training.facts import facts_of, needs_facts
from pipelines.training.objective import Objective
from tests.pipelines.training.test_fit import MODEL, SPECS, Held

ROWS = {
    "user_key": np.array([1, 1, 2, 2]),
    "item_key": np.array([7, 8, 8, 8]),
    "label": np.array([1, 0, 1, 0], "float32"),
}


def facts(batch_size=64, **losses):
    return facts_of(ROWS, TrainingOptions(batch_size=batch_size, losses=LossOptions(**losses)))


def test_positives_of_the_training_rows_are_known_unless_they_are_not_asked_for() -> None:
    known = facts().known
    pairs = np.array([(u, i) for u in (1, 2) for i in (7, 8)])
    assert ops.convert_to_numpy(known.among(pairs[:, 0], pairs[:, 1])).tolist() == [True, False, False, True]
    assert facts(mask_known=False).known is None
    none = facts_of(ROWS | {"label": np.zeros(4)}, TrainingOptions())
    assert none.known is None


@pytest.mark.parametrize(("options", "drawn"), [({}, 20), ({"batch_size": 8}, 4), ({"in_batch": "all"}, 63)])
def test_items_are_drawn_as_often_as_they_have_rows(options, drawn) -> None:
    assert facts(**options).frequencies is None
    found = facts(log_q=True, **options).frequencies
    np.testing.assert_allclose(np.exp(found.log_q(np.array([7, 8]))), [drawn / 4, drawn * 3 / 4], rtol=1e-6)


def test_losses_without_negatives_ask_for_no_facts() -> None:
    assert needs_facts(LossOptions()) and needs_facts(
        LossOptions(softmax=0, support_vector=1, mask_known=False, log_q=True)
    )
    assert not needs_facts(LossOptions(softmax=0))
    assert not needs_facts(LossOptions(mask_known=False))


def test_training_and_validation_are_each_corrected_by_their_own_rows() -> None:
    held = Held(64)
    inputs, extras = held.batch
    losses = LossOptions(pointwise=0, in_batch="all", log_q=True)
    options = TrainingOptions(batch_size=64, losses=losses)
    facts = facts_of(extras, options, held_out=extras["item_key"])
    assert facts_of(extras, options).held_out is None
    model = build_dropoutnet(SPECS, MODEL, 1)
    said = model(inputs)
    corrected, plain = (Objective(model, losses, seed=1, facts=found) for found in (facts, None))

    def loss(of, training) -> float:
        return float(of.compute_loss(inputs, extras, said, training=training))

    assert loss(corrected, True) != pytest.approx(loss(plain, True), rel=1e-3)
    # The same rows in both: only positives of other batches could be known, and there are none.
    assert loss(corrected, False) == pytest.approx(loss(corrected, True), rel=1e-5)
    assert loss(plain, False) == loss(plain, True)
