from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import WorkspaceError
from pipelines.evaluation.content_knn import ContentSpace
from pipelines.evaluation.factors import Als, ContentToFactors, ItemFactors
from pipelines.evaluation.rankers import dot
from pipelines.evaluation.timeline import History

IDS = pa.array([f"i{n}" for n in range(12)])
GENERATOR = np.random.default_rng(1)
VECTORS = GENERATOR.normal(size=(10, 3))
FACTORS = ItemFactors(IDS.slice(0, 10), VECTORS, alpha=5.0, regularisation=0.1)
USERS = pa.array(["u1", "u2"])


def history(*events) -> History:
    users, items, times = zip(*events, strict=True)
    table = pa.table({"user_id": users, "item_id": items, "event_time": times, "available_time": times})
    return History.of(table, USERS, IDS, 0)


def asked(*pairs) -> pa.Table:
    users, clocks = zip(*pairs, strict=True)
    return pa.table({"user_id": users, "as_of": clocks})


def test_a_user_s_vector_is_the_weighted_least_squares_of_what_the_clock_knows() -> None:
    ranker = Als(FACTORS, history(("u1", "i0", 10), ("u1", "i3", 20), ("u1", "i3", 21), ("u1", "i5", 90)))
    found = ranker.users(asked(("u1", 50)))[0]
    weights, target = np.ones(10), np.zeros(10)
    weights[[0, 3]], target[[0, 3]] = 6.0, 1.0  # the second click on i3 says nothing new, i5 is not known yet
    left = VECTORS.T @ np.diag(weights) @ VECTORS + 0.1 * 2 * np.eye(3)
    assert found == pytest.approx(np.linalg.solve(left, VECTORS.T @ (weights * target)))


def test_who_and_what_has_no_vector_has_zeros() -> None:
    ranker = Als(FACTORS, history(("u1", "i0", 10), ("u2", "i11", 10)))
    vectors = ranker.users(asked(("u1", 5), ("u2", 50), ("u1", 50)))
    assert vectors.any(axis=1).tolist() == [False, False, True]  # i11 was liked, but has no vector
    assert ranker.items(pa.table({"item_id": ["i11", "i2"]})).tolist() == [[0, 0, 0], VECTORS[2].tolist()]


def versions() -> pa.Table:
    """Two genres; items of a genre have nearly the same vector. i0's genre changes after the fit."""
    genres = ["x" if n % 2 else "y" for n in range(12)]
    return pa.table(
        {
            "item_id": [*IDS.to_pylist(), "i0"],
            "valid_from": pa.array([*[0] * 12, 500], pa.int64()),
            "genre": [*genres, "x"],
        }
    )


def test_an_item_without_a_vector_is_ranked_by_what_its_content_says() -> None:
    by_genre = np.where(np.arange(10)[:, None] % 2, [[1.0, 0.0]], [[0.0, 1.0]])
    factors = ItemFactors(IDS.slice(0, 10), by_genre, 5.0, 0.1)
    space = ContentSpace(versions(), {"genre": "category"}, before=100)
    past = history(("u1", "i1", 10), ("u1", "i3", 11))
    ranker = ContentToFactors(factors, space, versions(), past, fitted_at=100)
    items = pa.table({"item_id": ["i10", "i11"], "item_genre": ["y", "x"]})
    scores = dot(ranker.users(asked(("u1", 50))), ranker.items(items))[0]
    assert scores[1] > 2 * abs(scores[0])


def test_factors_that_saw_validation_are_refused_with_the_remedy() -> None:
    manifest = SimpleNamespace(as_of={"fitted_until": 101}, config={"factors": {"alpha": 1.0, "regularisation": 0.0}})
    tables = {f"{side}_factors": pa.table({f"{side}_id": ["a"], "factor": [[1.0, 2.0]]}) for side in ("user", "item")}
    factors = SimpleNamespace(manifest=manifest, read_table=tables.get)
    with pytest.raises(WorkspaceError, match=r"training period alone, these were until 101 us.*compute_factors"):
        ItemFactors.read(factors, 100)
    assert ItemFactors.read(factors, 101).of(pa.array(["a", "b"])).tolist() == [[1.0, 2.0], [0.0, 0.0]]
