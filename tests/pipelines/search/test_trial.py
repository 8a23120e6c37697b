"""Folds, the choice of neighbours, and the time that trials may take."""

import numpy as np
import pytest

from pipelines.config import SearchOptions
from pipelines.errors import ConfigError, InputError
from pipelines.search.budget import Budget, finals_of
from pipelines.search.summary import as_yaml, best_of, by_family, finalists_of, table_lines
from pipelines.search.trial import Fold, fit_nearest, folds_of, neighbour_curves
from pipelines.training.images import LabelledImages
from tests.pipelines.training.image_records import spots


def images(rows, seed=0):
    ids, pixels, labels = spots(rows, seed)
    return LabelledImages(tuple(ids), pixels, labels)


def test_folds_hold_each_image_out_once_and_are_the_same_for_a_seed() -> None:
    train, validation = images(20), images(7, 1)
    folds = folds_of(train, validation, SearchOptions(folds=4), seed=3)
    held = [name for fold in folds for name in fold.held.ids]
    assert sorted(held) == sorted(train.ids + validation.ids)
    for fold in folds:
        assert not set(fold.train.ids) & set(fold.held.ids)
        assert fold.train.rows + fold.held.rows == 27
    again = folds_of(train, validation, SearchOptions(folds=4), seed=3)
    assert [fold.held.ids for fold in again] == [fold.held.ids for fold in folds]
    assert folds_of(train, validation, SearchOptions(), seed=3) == [Fold(train, validation)]


def test_what_cannot_be_searched_is_said() -> None:
    none = images(0)
    with pytest.raises(InputError, match="must have training images, there are none"):
        folds_of(none, images(3), SearchOptions(), seed=1)
    with pytest.raises(InputError, match=r"validation images to choose by, .* set search.folds"):
        folds_of(images(3), none, SearchOptions(), seed=1)
    with pytest.raises(ConfigError, match=r"search.folds must be at most the 3 images .*, got 5; set fewer"):
        folds_of(images(3), none, SearchOptions(folds=5), seed=1)
    (fold,) = folds_of(images(3), images(2, 1), SearchOptions(), seed=1)
    with pytest.raises(ConfigError, match=r"a k that is at most the 2 training images of a fold, got \[9\]"):
        neighbour_curves(fold, SearchOptions(neighbours=(9,), neighbour_folds=3), 2, seed=1)


def test_neighbours_are_chosen_by_cross_validation_with_the_deviation_over_folds() -> None:
    (fold,) = folds_of(images(40), images(10, 1), SearchOptions(), seed=1)
    options = SearchOptions(neighbours=(1, 5, 39), neighbour_folds=4)
    curves, notes = neighbour_curves(fold, options, 2, seed=1)
    assert notes == ["k = 39 left out: a fold has 30 training images"]
    assert [(row["distance"], row["k"]) for row in curves] == [("l1", 1), ("l1", 5), ("l2", 1), ("l2", 5)]
    for row in curves:
        assert row["sd"] == pytest.approx(np.std(row["accuracies"], ddof=1), abs=1e-5)
        assert row["mean"] == pytest.approx(1.0, abs=0.1)
    made = fit_nearest(folds_of(images(40), images(10, 1), SearchOptions(folds=5), seed=1), 2, k=3, distance="l2")
    assert len(made.accuracies) == 5 and made.accuracy == np.mean(made.accuracies)


def test_trials_end_with_their_time_or_their_number_and_the_rest_is_for_the_best() -> None:
    budget = Budget(SearchOptions(minutes=20, trials=3))
    assert budget.trial_minutes == pytest.approx(0.8)
    assert not budget.is_over(0) and not budget.is_over(2) and budget.is_over(3)
    budget.spent_s = 12 * 60 - 23
    assert budget.is_over(2)  # less than half a trial's time is left
    assert budget.left() == pytest.approx(8 + 23 / 60)
    budget.spent_s = 60 * 60
    assert budget.left() == pytest.approx(4)
    assert Budget(SearchOptions(trials=3)).left() is None
    assert not Budget(SearchOptions(minutes=0.001)).is_over(0)  # one at least


def trial(number, family, accuracy, **more):
    """A trial as the job publishes it."""
    return {
        "number": number,
        "family": family,
        "accuracy": accuracy,
        "accuracies": [accuracy],
        "parameters": 7,
        "multiply_adds": 9,
        "bytes": 2048,
        "changes": {"family": family},
        **more,
    }


def test_the_best_of_each_kind_is_trained_to_the_end_and_the_table_has_each_family() -> None:
    trials = [
        trial(1, "nearest", 0.8),
        trial(2, "linear", 0.9),
        trial(3, "mobilenet_v2", 0.7, accuracies=[0.6, 0.8]),
        trial(4, "linear", 0.9, multiply_adds=5),
        trial(5, "shufflenet_v2", None),
    ]
    assert best_of(trials)["number"] == 4  # of equals the cheaper
    assert [one["number"] for one in finalists_of(trials)] == [4, 3]
    finals = finals_of(finalists_of(trials), 40, 10.0)
    assert [(final["family"], final["minutes"]) for final in finals] == [("linear", 2.0), ("mobilenet_v2", 8.0)]
    assert finals_of(finalists_of(trials[:1]), 40, 10.0)[0]["minutes"] == 10.0
    speeds = {str(number): {"cpu_s": 1.5, "images_per_s": 1000} for number in range(1, 6)}
    header, *rows = table_lines(by_family({"trials": trials}, speeds))
    assert header.split()[:3] == ["family", "trials", "accuracy"]
    assert [row.split()[:3] for row in rows] == [
        ["linear", "2", "0.9000"],
        ["nearest", "1", "0.8000"],
        ["mobilenet_v2", "1", "0.7000"],
    ]
    assert "0.1414" in rows[2]
    with pytest.raises(InputError, match="must complete a trial, all were given up"):
        best_of([trial(1, "linear", None)])
    assert as_yaml({"schedule.name": "cosine", "minutes": 2, "family": "linear"}) == (
        "classifier:\n  family: linear\n  schedule:\n    name: cosine\n"
    )
