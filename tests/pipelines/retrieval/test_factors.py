"""Reference factors by id: found again after saving, folded in as the fit would have, missing for what is new."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import CorruptDatasetError
from pipelines.retrieval.factors import Factors

RANK, ALPHA, RIDGE = 3, 10.0, 0.1


def small(seed=0, users=4, items=6):
    draw = np.random.default_rng(seed)
    names = {"user": [f"u{n}" for n in range(users)], "item": [f"i{n}" for n in range(items)]}
    return Factors(
        {side: pa.array(found) for side, found in names.items()},
        {side: draw.normal(size=(len(found), RANK)).astype("float32") for side, found in names.items()},
        ALPHA,
        RIDGE,
        100,
    )


def test_vectors_are_found_by_id_and_missing_for_the_new() -> None:
    factors = small()
    got = factors.of("item", pa.array(["i5", None, "new", "i0"]))
    np.testing.assert_array_equal(got[[0, 3]], factors.vectors["item"][[5, 0]])
    assert np.isnan(got[1:3]).all()
    assert np.sqrt(np.mean(factors.scaled("user", factors.vectors["user"]) ** 2)) == pytest.approx(1, rel=1e-5)


def test_a_folded_in_user_is_the_least_squares_of_the_items_with_each_counted_once() -> None:
    factors = small()
    got = factors.fold_in(pa.array([["i1", "i4", "i1", "gone"], [], None, ["gone"]]))
    y = factors.vectors["item"].astype("float64")
    wanted = np.array([0, 1, 0, 0, 1, 0.0])
    confidence = np.diag(1 + ALPHA * wanted)
    left = y.T @ confidence @ y + RIDGE * 2 * np.eye(RANK)
    np.testing.assert_allclose(got[0], np.linalg.solve(left, y.T @ confidence @ wanted), rtol=1e-4)
    assert np.isnan(got[1:]).all()


def test_saved_factors_are_the_same_and_equal_ones_equal_bytes() -> None:
    content = small().to_bytes()
    again = Factors.from_bytes(content, "here")
    for side, vectors in small().vectors.items():
        np.testing.assert_array_equal(again.vectors[side], vectors)
        assert again.ids[side] == small().ids[side]
    assert (again.alpha, again.regularisation, again.until, again.rank) == (ALPHA, RIDGE, 100, RANK)
    assert again.to_bytes() == content
    for broken in (content[: len(content) // 2], b"", b"no factors"):
        with pytest.raises(CorruptDatasetError, match="here must hold reference factors"):
            Factors.from_bytes(broken, "here")
