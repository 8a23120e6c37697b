"""Folds, the choice of neighbours, and the time that trials may take."""

import numpy as np
import pytest

from pipelines.config import ClassifierOptions, SearchOptions
from pipelines.errors import ConfigError, InputError
from pipelines.search.budget import Budget, finals_of
from pipelines.search.neighbours import choice, fit_nearest, neighbour_curves, possible, within
from pipelines.search.summary import as_yaml, best_of, by_family, finalists_of, table_lines
from pipelines.search.trial import Fold, fit, folds_of
from pipelines.training.history import Epoch, History
from pipelines.training.images import LabelledImages
from pipelines.training.network import TrainedNetwork
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
    curves = neighbour_curves(fold, options, 2, seed=1)
    assert possible(40, options) == ([1, 5], [39])
    assert [(row["distance"], row["k"]) for row in curves] == [("l1", 1), ("l1", 5), ("l2", 1), ("l2", 5)]
    for row in curves:
        assert row["sd"] == pytest.approx(np.std(row["accuracies"], ddof=1), abs=1e-5)
        assert row["mean"] == pytest.approx(1.0, abs=0.1)
    found, of_first = fit_nearest([fold], options, 2, seed=1)
    assert of_first == curves and (found.model.k, found.model.distance) == (1, "l1") and len(found.accuracies) == 1


def test_neighbours_are_chosen_without_a_look_at_the_rows_that_a_fold_leaves_out() -> None:
    options = SearchOptions(folds=5, neighbours=(1, 3, 5))
    random = np.random.default_rng(3)

    def noise(rows):
        pixels = random.integers(0, 256, (rows, 4, 4, 1), np.uint8)
        return LabelledImages(tuple(map(str, range(rows))), pixels, random.integers(0, 2, rows))

    folds = folds_of(noise(50), noise(10), options, seed=1)
    found, curves = fit_nearest(folds, options, 2, seed=1)
    assert len(found.accuracies) == 5 and found.accuracy == np.mean(found.accuracies)
    for fold, accuracy in zip(folds, found.accuracies, strict=True):
        # Whatever is left out decides on nothing.
        alone, of_fold = fit_nearest([Fold(fold.train, noise(9))], options, 2, seed=1)
        best = choice(of_fold)
        assert (alone.model.k, alone.model.distance) == (best["k"], best["distance"])
        assert accuracy == (alone.model.predict(fold.held.images) == fold.held.labels).mean()
    assert curves == neighbour_curves(folds[0], options, 2, seed=1)


def test_neighbours_are_looked_for_among_as_many_images_as_time_allows(monkeypatch) -> None:
    folds = folds_of(images(4000), images(100, 1), SearchOptions(), seed=1)
    options = SearchOptions(neighbours=(1, 3), neighbour_folds=5)
    monkeypatch.setattr("pipelines.search.neighbours._seconds_a_pair", lambda *given: 1e-6)
    assert within(folds, options, 2, None) == folds
    assert within(folds, options, 2, 60)[0].train.ids == folds[0].train.ids
    (fold,) = within(folds, options, 2, 1)
    rows = fold.train.rows
    assert fold.train.ids == folds[0].train.ids[:rows] and fold.held is folds[0].held
    # n² pairs by four fifths, and n for each of 100: as near to a second as whole rows come.
    assert (rows * rows * 0.8 + rows * 100) * 1e-6 <= 1 < ((rows + 1) ** 2 * 0.8 + (rows + 1) * 100) * 1e-6
    (fold,) = within(folds, options, 2, 1e-9)
    assert possible(fold.train.rows, options)[0] and fit_nearest([fold], options, 2, seed=1)


def test_what_a_fold_leaves_out_chooses_no_epoch(monkeypatch) -> None:
    def train(options, train, held, classes, *, seed, on_epoch):
        epochs = tuple(
            Epoch(number, {"validation_accuracy": value}, 1.0, 0.0) for number, value in enumerate((0.5, 0.9, 0.7), 1)
        )
        for epoch in epochs if on_epoch else ():
            on_epoch(epoch)
        return TrainedNetwork("model", History(epochs, 2, "validation_accuracy"))

    monkeypatch.setattr("pipelines.search.trial.train_network", train)
    for folds, accuracy, epoch in ((None, 0.9, 2), (2, 0.7, 3)):
        some = folds_of(images(8), images(4, 1), SearchOptions(folds=folds), seed=1)
        made = fit(ClassifierOptions(), some, ("a", "b"), seed=1, on_epoch=lambda epoch: False)
        assert (made.accuracy, made.best_epoch) == (accuracy, epoch)


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
