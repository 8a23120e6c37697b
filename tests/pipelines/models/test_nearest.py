"""Nearest neighbours by hand, and on the digits that come with scikit-learn."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from pipelines.errors import ConfigError, SourceError
from pipelines.models.nearest import NearestNeighbours, content_rows, cross_validate, load_nearest, vote
from schemas.fitted import InputSpec


def test_l1_and_l2_have_neighbours_of_their_own() -> None:
    # From the origin: (3, 3) is 6 and √18 away, (0, 5) is 5 and 5.
    training, labels = np.array([[3.0, 3.0], [0.0, 5.0]]), np.array([0, 1])
    found = {
        distance: NearestNeighbours(training, labels, 2, k=1, distance=distance).predict(np.zeros((1, 2))).tolist()
        for distance in ("l1", "l2")
    }
    assert found == {"l1": [1], "l2": [0]}


def test_the_majority_decides_and_of_equals_the_first_class() -> None:
    assert vote(np.array([[0, 1, 1], [2, 1, 0], [1, 0, 0], [1, 2, 2]]), 3).tolist() == [1, 0, 0, 2]
    line = NearestNeighbours(np.array([[0.0], [1.0], [2.0], [9.0]]), np.array([1, 0, 0, 2]), 3, k=3, distance="l2")
    assert line.predict(np.array([[0.1]])).tolist() == [0]
    np.testing.assert_allclose(line.shares(np.array([[0.1]])), [[2 / 3, 1 / 3, 0]])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["l1", "l2"]))
def test_neighbours_are_those_of_every_distance_worked_out(seed, distance) -> None:
    draw = np.random.default_rng(seed)
    training, asked = draw.normal(size=(30, 4)), draw.normal(size=(5, 4))
    gaps = np.abs(asked[:, None] - training)
    far = gaps.sum(axis=2) if distance == "l1" else (gaps**2).sum(axis=2)
    model = NearestNeighbours(training, np.zeros(30, int), 1, k=1, distance=distance)
    np.testing.assert_array_equal(model.neighbours(asked, 6), np.argsort(far, axis=1)[:, :6])


def digits():
    images, labels = load_digits(return_X_y=True)
    half = len(labels) // 2
    return images[:half], labels[:half], images[half:], labels[half:]


@pytest.mark.parametrize(("k", "expected"), [(1, 0.961), (3, 0.963)])
def test_digits_are_recognised_as_often_as_scikit_learn_does(k, expected) -> None:
    images, labels, new, truth = digits()
    model = NearestNeighbours(images, labels, 10, k=k, distance="l2")
    assert (model.predict(new) == truth).mean() == pytest.approx(expected, abs=5e-4)


def test_cross_validation_predicts_each_row_once_from_the_others() -> None:
    # Two far clusters of six: one neighbour finds the class, eleven find the larger class of those left.
    vectors = np.concatenate([np.arange(6.0), 100 + np.arange(6.0)])[:, None]
    labels = np.repeat([0, 1], 6)
    found = cross_validate(vectors, labels, 2, [1, 3, 8], distance="l1", folds=3, seed=5)
    assert found.shape == (3, 3)
    assert found[:2].min() == 1
    again = cross_validate(vectors, labels, 2, [1, 3, 8], distance="l1", folds=3, seed=5)
    np.testing.assert_array_equal(found, again)


def test_saved_neighbours_predict_the_same(tmp_path) -> None:
    images, labels, new, _ = digits()
    model = NearestNeighbours(images[:200], labels[:200], 10, k=3, distance="l1")
    model.save(tmp_path / "nearest")
    np.testing.assert_array_equal(load_nearest(tmp_path / "nearest").predict(new[:50]), model.predict(new[:50]))
    (tmp_path / "other").write_text("no archive")
    with pytest.raises(SourceError, match=r"must be an \.npz file"):
        load_nearest(tmp_path / "other")
    with pytest.raises(SourceError, match=r"must be an \.npz file"):
        load_nearest(tmp_path / "absent")


def test_pixels_are_kept_and_saved_as_pixels_and_asked_for_in_parts(tmp_path, monkeypatch) -> None:
    images, labels, new, _ = digits()
    pixels, asked = images.astype(np.uint8).reshape(-1, 8, 8, 1), new.astype(np.uint8).reshape(-1, 8, 8, 1)
    model = NearestNeighbours(pixels, labels, 10, k=3, distance="l2")
    expected, sizes = model.shares(asked), []
    search = model._index.search
    monkeypatch.setattr(model, "_index", SimpleNamespace(search=lambda v, k: sizes.append(len(v)) or search(v, k)))
    monkeypatch.setattr("pipelines.models.nearest._ASKED", 250)
    np.testing.assert_array_equal(model.shares(asked), expected)
    assert sizes == [250, 250, 250, 149]
    assert model.shares(asked[:0]).shape == (0, 10)
    model.save(tmp_path / "nearest")
    again = load_nearest(tmp_path / "nearest")
    assert model.vectors.dtype == again.vectors.dtype == np.uint8
    assert np.shares_memory(model.vectors, pixels)  # not a second time
    np.testing.assert_array_equal(again.shares(asked), expected)


@pytest.mark.parametrize(
    ("k", "distance", "told"), [(0, "l2", "between 1 and the 2"), (3, "l2", "got 3"), (1, "cosine", "l1 or l2")]
)
def test_what_cannot_be_is_refused(k, distance, told) -> None:
    with pytest.raises(ConfigError, match=told):
        NearestNeighbours(np.zeros((2, 1)), np.array([0, 1]), 2, k=k, distance=distance)


def test_content_of_any_kind_becomes_vectors() -> None:
    specs = (
        InputSpec(name="n", side="item", part="content", kind="floats", length=2),
        InputSpec(name="t", side="item", part="content", kind="ids", length=3, table="t", table_size=4),
    )
    numbers = np.array([[1.5, np.nan], [0.0, 2.0], [0.0, 2.0]])
    rows = {"n": numbers, "t": np.array([[3, 1, 3], [0, 0, 0], [2, 0, 0]])}
    expected = [[1.5, 0, 0, 1, 1 / 3, 0, 2 / 3], [0, 2, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 1, 0]]
    np.testing.assert_allclose(content_rows(rows, specs), expected, rtol=1e-6)
