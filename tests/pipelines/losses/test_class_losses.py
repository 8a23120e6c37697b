"""Losses of classifiers against numbers worked out by hand (cs231n's examples and our own)."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from pipelines.config import ClassifierLossOptions
from pipelines.errors import ConfigError
from pipelines.losses.classification import CLASS_LOSSES, class_loss
from pipelines.losses.cross_entropy import cross_entropy
from pipelines.losses.l2 import l2
from pipelines.losses.multiclass_svm import multiclass_svm

CAT_CAR_FROG = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]], "float32")
LABELS = np.array([0, 1, 2])
CONFIDENT = np.array([[10, -2, 3], [10, 9, 9], [10, -100, -100]], "float32")
FIRST = np.array([0, 0, 0])


def of(loss, scores, labels, **settings) -> list[float]:
    return np.asarray(
        loss(ops.convert_to_tensor(np.asarray(scores, "float32")), np.asarray(labels), **settings)
    ).tolist()


def test_the_svm_sums_what_every_other_class_lacks_to_the_margin() -> None:
    assert of(multiclass_svm, CAT_CAR_FROG, LABELS) == pytest.approx([2.9, 0, 12.9], abs=1e-5)
    assert np.mean(of(multiclass_svm, CAT_CAR_FROG, LABELS)) == pytest.approx(5.27, abs=5e-3)
    assert of(multiclass_svm, [[13, -7, 11]], [0], margin=10.0) == [8]


def test_the_svm_of_keras_looks_at_the_best_other_class_alone() -> None:
    best = keras.losses.CategoricalHinge()(np.array([[0, 0, 1.0]]), CAT_CAR_FROG[2:])
    assert float(best) == pytest.approx(6.6, abs=1e-5)


def test_scores_that_are_all_equal_cost_the_margin_for_each_other_class() -> None:
    assert of(multiclass_svm, np.zeros((1, 10)), [3]) == [9]
    assert of(multiclass_svm, np.zeros((1, 10)), [3], margin=0.5) == [4.5]
    assert of(multiclass_svm, np.zeros((1, 10)), [3], form="one_vs_all") == [10]


def test_squared_misses_are_squared_one_by_one() -> None:
    # 5.1 - 3.2 + 1 = 2.9; and 2.2 + 3.1 + 1 = 6.3, 2.5 + 3.1 + 1 = 6.6.
    assert of(multiclass_svm, CAT_CAR_FROG, LABELS, squared=True) == pytest.approx([2.9**2, 0, 6.3**2 + 6.6**2], 1e-5)


def test_one_against_all_is_a_machine_for_each_class() -> None:
    # Of the first row: max(0, 1 - 3.2) + max(0, 1 + 5.1) + max(0, 1 - 1.7).
    expected = [6.1, 2.3 + 3.0, 3.2 + 3.5 + 4.1]
    assert of(multiclass_svm, CAT_CAR_FROG, LABELS, form="one_vs_all") == pytest.approx(expected, abs=1e-5)


def test_of_two_classes_the_svm_is_the_binary_one() -> None:
    difference = np.linspace(-3, 3, 13)
    scores = np.stack([np.zeros(13), difference], axis=1)
    expected = np.maximum(0, 1 - difference)
    np.testing.assert_allclose(of(multiclass_svm, scores, np.ones(13, int)), expected, atol=1e-6)


def test_margin_and_length_of_the_weights_trade_off_one_thing() -> None:
    doubled = of(multiclass_svm, 2 * CAT_CAR_FROG, LABELS, margin=2.0)
    np.testing.assert_allclose(doubled, 2 * np.array(of(multiclass_svm, CAT_CAR_FROG, LABELS)), rtol=1e-5)


def test_cross_entropy_is_the_label_s_share_in_logarithm() -> None:
    assert of(cross_entropy, CAT_CAR_FROG[:1], [0]) == pytest.approx([2.040], abs=5e-4)
    assert of(cross_entropy, np.zeros((1, 10)), [7]) == pytest.approx([2.3026], abs=5e-5)


def test_cross_entropy_is_never_done_where_the_svm_is() -> None:
    assert of(multiclass_svm, CONFIDENT, FIRST) == [0, 0, 0]
    assert of(cross_entropy, CONFIDENT, FIRST) == pytest.approx([9.18e-4, 0.5514, 0], rel=1e-3, abs=1e-7)
    surer = CONFIDENT + np.array([10, 0, 0], "float32")
    assert of(cross_entropy, surer, FIRST) == pytest.approx([4.17e-8, 3.34e-5, 0], rel=1e-2, abs=6e-8)


def test_large_scores_do_not_overflow() -> None:
    assert of(cross_entropy, [[123, 456, 789]], [0]) == [666]


def test_smoothing_gives_each_class_its_share_of_the_label() -> None:
    shares = np.exp(CAT_CAR_FROG[0]) / np.exp(CAT_CAR_FROG[0]).sum()
    target = np.array([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    expected = -(target * np.log(shares)).sum()
    assert of(cross_entropy, CAT_CAR_FROG[:1], [0], label_smoothing=0.1) == pytest.approx([expected], rel=1e-5)
    keras_s = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    assert float(keras_s(np.array([[1.0, 0, 0]]), CAT_CAR_FROG[:1])) == pytest.approx(expected, rel=1e-5)


def test_l2_prefers_weights_that_are_spread() -> None:
    assert float(l2([ops.convert_to_tensor([1.0, 0, 0, 0])], 1.0)) == 1
    assert float(l2([ops.convert_to_tensor([0.25] * 4)], 1.0)) == 0.25
    assert float(l2([ops.convert_to_tensor([[3.0]]), ops.convert_to_tensor([4.0])], 0.5)) == 12.5
    assert float(l2([], 1.0)) == 0


def test_the_configured_loss_reads_its_settings() -> None:
    assert set(CLASS_LOSSES) == {"cross_entropy", "multiclass_svm"}
    squared = class_loss(ClassifierLossOptions(name="multiclass_svm", margin=2.0, squared=True))
    assert of(squared, np.zeros((1, 3)), [0]) == [8]
    smoothed = class_loss(ClassifierLossOptions(label_smoothing=0.2))
    assert of(smoothed, np.zeros((1, 3)), [0]) == pytest.approx([math.log(3)], rel=1e-6)


def test_an_unknown_loss_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean `cross_entropy`"):
        class_loss(ClassifierLossOptions.model_construct(name="crossentropy"))
