"""Accuracies with intervals, by hand and beside a bootstrap that draws images."""

import numpy as np
import pytest

from pipelines.errors import InputError
from pipelines.evaluation.classifier_measures import confused, measure, paired_estimate, share_estimate

NAMES = ["cat", "dog", "hen"]


def measured(probabilities, labels, names=NAMES):
    return measure(np.asarray(probabilities), np.asarray(labels), names, resamples=200, seed=1, split="validation")


def test_what_is_measured_of_three_images_by_hand() -> None:
    metrics, shown = measured([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2]], [0, 1, 2])
    assert metrics["accuracy"] == {"value": 0.666667, "low": None, "high": None, "n": 3}
    assert metrics["top_2_accuracy"]["value"] == 0.666667
    assert shown["confusion"] == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert shown["confused"] == [{"label": "hen", "predicted": "cat", "rows": 1}]
    assert [row["recall"] for row in shown["by_class"]] == [1, 1, 0]
    assert sum(b["n"] for b in shown["reliability"]) == 3


def test_of_two_classes_no_second_choice_is_counted_and_of_many_the_first_five() -> None:
    assert "top_2_accuracy" not in measured([[0.9, 0.1]], [0], NAMES[:2])[0]
    assert measured(np.eye(8), np.arange(8), list("abcdefgh"))[0]["top_5_accuracy"]["value"] == 1.0


def test_an_interval_is_that_of_drawing_the_images_anew() -> None:
    draw = np.random.default_rng(3)
    hits, others = draw.random(400) < 0.8, draw.random(400) < 0.7
    places = draw.integers(400, size=(5_000, 400))
    for found, values in (
        (share_estimate(hits, 5_000, 1), hits[places].mean(axis=1)),
        (paired_estimate(hits, others, 5_000, 1), (hits[places].astype(float) - others[places]).mean(axis=1)),
    ):
        assert [found.low, found.high] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.006)


def test_nine_of_nine_right_are_no_proof_of_perfection_nor_nine_wrong_of_the_contrary() -> None:
    # Wilson's interval by hand: n / (n + z²) of n = 9 and z = 1.96.
    least = 9 / (9 + 1.959964**2)
    right, wrong = (share_estimate(np.full(9, hit), 200, 1) for hit in (True, False))
    assert (right.value, right.low, right.high) == (1, pytest.approx(least, abs=1e-6), 1)
    assert (wrong.value, wrong.low, wrong.high) == (0, 0, pytest.approx(1 - least, abs=1e-6))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_two_models_that_agree_on_every_image_differ_by_nothing_at_all(share) -> None:
    hits = np.random.default_rng(5).random(50) < share
    found = paired_estimate(hits, hits, 50, 1)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_without_images_or_with_scores_that_are_no_numbers_nothing_is_claimed() -> None:
    with pytest.raises(InputError, match=r"the split validation has none; set images\.validation_share"):
        measured(np.zeros((0, 3)), np.zeros(0, np.int64))
    with pytest.raises(InputError, match="others for 1 of 2 images"):
        measured([[0.1, np.nan, 0.1], [0.8, 0.1, 0.1]], [0, 0])


def test_the_commonest_confusions_come_first_and_hits_are_none() -> None:
    pairs = confused(np.array([[90, 1, 4], [0, 80, 7], [0, 0, 5]]), NAMES)
    assert [(pair["label"], pair["predicted"], pair["rows"]) for pair in pairs] == [
        ("dog", "hen", 7), ("cat", "hen", 4), ("cat", "dog", 1),
    ]  # fmt: skip
