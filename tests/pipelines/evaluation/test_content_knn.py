import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from pipelines.evaluation.content_knn import ContentKnn, ContentSpace
from pipelines.evaluation.rankers import dot, dot_pairs
from pipelines.evaluation.strangers import ForStrangers
from pipelines.evaluation.timeline import History

KINDS = {"genre": "category", "tags": "categories", "text": "text", "price": "number", "look": "vector"}


def versions(rows) -> pa.Table:
    names = ["item_id", "valid_from", "genre", "tags", "text", "price", "look"]
    types = [
        pa.string(),
        pa.int64(),
        pa.string(),
        pa.list_(pa.string()),
        pa.string(),
        pa.float64(),
        pa.list_(pa.float32()),
    ]
    return pa.table({n: pa.array([r[i] for r in rows], t) for i, (n, t) in enumerate(zip(names, types, strict=True))})


ITEMS = versions(
    [
        ("i1", 0, "jazz", ["calm"], "Blue night", 1.0, [1.0, 0.0]),
        ("i2", 0, "jazz", ["calm", "old"], "Blue day", 2.0, [1.0, 0.0]),
        ("i3", 0, "rock", None, None, None, None),
        ("i1", 50, "rock", [], "Red", 1.0, [0.0, 1.0]),
    ]
)
IDS = pa.array(["i1", "i2", "i3"])
USERS = pa.array(["u1", "u2"])


def positives(*events) -> pa.Table:
    users, items, times = zip(*events, strict=True)
    return pa.table({"user_id": users, "item_id": items, "event_time": times, "available_time": times})


def rows(*users_and_clocks) -> pa.Table:
    users, clocks = zip(*users_and_clocks, strict=True)
    return pa.table({"user_id": users, "as_of": clocks})


def catalogue(past) -> pa.Table:
    table = ITEMS.slice(0, 3)
    named = {f"item_{name}": table[name] for name in KINDS}
    return pa.table({"item_id": table["item_id"], **named, "past_positives": past})


def knn(*events) -> ForStrangers:
    history = History.of(positives(*events), USERS, IDS, 0)
    return ForStrangers(ContentKnn(ContentSpace(ITEMS, KINDS, before=10), ITEMS, history))


def test_rare_values_weigh_more_and_every_vector_has_length_one() -> None:
    space = ContentSpace(ITEMS, KINDS, before=10)
    vectors = space.vectors(ITEMS).toarray()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 1])
    # i1 and i2 share genre and look wholly, `calm` of (calm, old) and `blue` of (blue, day) in part.
    assert 0.6 < vectors[0] @ vectors[1] < 0.9
    # What only the later version says was not seen before the cut: df = 0.
    assert vectors[0] @ vectors[2] == 0


def test_the_profile_is_the_content_of_what_was_liked_as_it_was_then() -> None:
    ranker = knn(("u1", "i1", 20), ("u2", "i1", 60))
    scores = dot(ranker.users(rows(("u1", 100), ("u2", 100))), ranker.items(catalogue([0, 0, 0])))
    assert scores[0].argmax() == 0
    # u2 met i1 when it was already rock: i3 is nearer than the jazz it used to be.
    assert scores[1].argmax() == 2


def test_a_user_without_known_positives_is_shown_what_is_popular() -> None:
    ranker = knn(("u1", "i1", 20))
    items = ranker.items(catalogue([1, 5, 3]))
    unknown = rows(("u2", 100), ("u1", 20))  # at clock 20 the event at 20 is not past
    assert np.argsort(-dot(ranker.users(unknown), items), axis=1).tolist() == [[1, 2, 0]] * 2


def test_sparse_vectors_of_few_and_of_many_values_are_multiplied_alike() -> None:
    generator = np.random.default_rng(1)
    users, items = generator.normal(size=(4, 40)), generator.normal(size=(9, 40))
    for share in (0.02, 0.9):
        few = np.where(generator.random(users.shape) < share, users, 0)
        found = dot(sparse.csr_matrix(few), sparse.csr_matrix(items))
        assert found == pytest.approx(few @ items.T)
        assert found.flags.c_contiguous


def test_pairs_are_the_diagonal_of_all_scores() -> None:
    ranker = knn(("u1", "i1", 20), ("u2", "i3", 30))
    users = ranker.users(rows(("u1", 100), ("u2", 100), ("u2", 1)))
    items = ranker.items(catalogue([1, 5, 3]))
    assert dot_pairs(users, items) == pytest.approx(np.diag(dot(users, items)))
