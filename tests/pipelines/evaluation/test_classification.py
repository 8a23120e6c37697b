"""Measures of a classifier by hand, and beside scikit-learn's."""

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

from pipelines.evaluation.classification import (
    by_class,
    confident_mistakes,
    confusion,
    expected_calibration_error,
    reliability_of_classes,
    top_k_accuracy,
)


def drawn(rows=300, classes=5):
    draw = np.random.default_rng(0)
    scores = draw.normal(size=(rows, classes))
    return scores, draw.integers(0, classes, rows)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_is_scikit_learn_s(k) -> None:
    scores, labels = drawn()
    assert top_k_accuracy(scores, labels, k) == pytest.approx(top_k_accuracy_score(labels, scores, k=k))
    assert top_k_accuracy(np.full_like(scores, np.nan), labels, k) == 0


def test_a_model_that_scores_all_alike_is_right_about_its_first_class_alone() -> None:
    labels = np.array([0, 1, 2, 2])
    assert [top_k_accuracy(np.zeros((4, 3)), labels, k) for k in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert math.isnan(top_k_accuracy(np.zeros((0, 3)), labels[:0]))


def test_confusion_and_classes_are_scikit_learn_s() -> None:
    scores, labels = drawn()
    predicted = scores.argmax(axis=1)
    counts = confusion(predicted, labels, 5)
    np.testing.assert_array_equal(counts, confusion_matrix(labels, predicted))
    table = by_class(counts, list("abcde"))
    expected = precision_recall_fscore_support(labels, predicted)
    for name, values in zip(("precision", "recall", "f1", "rows"), expected, strict=True):
        np.testing.assert_allclose(table[name].to_numpy(), values, rtol=1e-12)


def test_a_class_that_is_never_called_has_no_precision() -> None:
    # Labels a, a, b; all called a; c is neither there nor called.
    rows = by_class(confusion(np.array([0, 0, 0]), np.array([0, 0, 1]), 3), ["a", "b", "c"]).to_pylist()
    assert rows[0] == {"class": "a", "rows": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": 0.8}
    assert rows[1] == {"class": "b", "rows": 1, "precision": None, "recall": 0.0, "f1": 0.0}
    assert rows[2] == {"class": "c", "rows": 0, "precision": None, "recall": None, "f1": None}


def test_calibration_error_is_the_gap_of_each_bin_by_its_rows() -> None:
    # Of ten bins: 0.9 and 0.85 share one (right, wrong: 0.5 of 0.875), 0.6 is in another (right).
    probabilities = np.array([[0.9, 0.1], [0.15, 0.85], [0.6, 0.4]])
    labels = np.array([0, 0, 0])
    assert expected_calibration_error(probabilities, labels, bins=10) == pytest.approx((2 * 0.375 + 0.4) / 3)
    # Of two bins: all three share the upper one, two of them right.
    assert expected_calibration_error(probabilities, labels, bins=2) == pytest.approx((2.35 - 2) / 3)
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0
    assert math.isnan(expected_calibration_error(np.zeros((0, 2)), np.zeros(0, np.int64)))


def test_the_calibration_of_what_is_no_number_is_none_and_never_a_small_error() -> None:
    probabilities = np.array([[0.9, 0.1], [np.nan, np.nan]])
    assert math.isnan(expected_calibration_error(probabilities, np.array([0, 0])))


def test_the_reliability_curve_gives_the_calibration_error() -> None:
    scores, labels = drawn()
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    curve = reliability_of_classes(probabilities, labels)
    error = sum(b.n * abs(b.observed - b.predicted) for b in curve) / len(labels)
    assert sum(b.n for b in curve) == len(labels)
    assert error == pytest.approx(expected_calibration_error(probabilities, labels), abs=1e-6)


def test_probabilities_that_are_what_they_say_have_no_error() -> None:
    probabilities = np.tile([0.75, 0.25], (4, 1))
    assert expected_calibration_error(probabilities, np.array([0, 0, 1, 0])) == pytest.approx(0)


def test_mistakes_come_from_the_surest_down_and_equal_ones_by_id() -> None:
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]])
    labels = np.array([1, 0, 0, 1, 1])
    table = confident_mistakes(probabilities, labels, ["z", "y", "x", "w", "a"], ["cat", "dog"], count=3)
    assert table["id"].to_pylist() == ["a", "z", "y"]
    assert table.to_pylist()[2] == {"id": "y", "label": "cat", "predicted": "dog", "confidence": 0.7, "of_label": 0.3}
    assert confident_mistakes(probabilities, labels, list("zyxwa"), ["cat", "dog"], count=1).num_rows == 1
