"""Reference factors: what they learn from, what they never see, and that they are the same however rows arrive."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import ConfigError, InputError
from pipelines.factors.als import fit_factors, fitted_until, training_positives
from pipelines.retrieval.factors import Factors
from schemas.fitted import Cuts

CUTS = Cuts(validation_start=100, test_start=200, end=300)
OPTIONS = {"rank": 3, "iterations": 3}
TWO_CIRCLES = [
    (f"{group}{user}", f"{group}{item}")
    for group in "ab"
    for user in range(30)
    for item in range(30)
    if (user * item) % 7 > 2 and (user, item) != (1, 3)
]
"""Two groups of users, each with items of its own."""


def collected(found):
    return {side: {row[0]: np.array(row[1], "float32") for row in frame.collect()} for side, frame in found.items()}


def pairs_of(spark, pairs, partitions):
    return spark.createDataFrame(pairs, "user_id string, item_id string").repartition(partitions)


def test_only_positives_that_happened_and_were_known_before_the_cut_are_learned_from(log, config) -> None:
    events = log(
        "u i 50 click", "u i 60 click", "u j 50 impression", "v j 99 click 100", "v i 99 click 101", "u j 100 click"
    )
    found = training_positives(events, config(), 100)
    assert sorted(map(tuple, found.collect())) == [("u", "i"), ("v", "j")]
    assert fitted_until(config(factors={}).factors, CUTS) == 100
    earlier = config(factors={"until": "1970-01-01T00:00:00.000060"}).factors
    assert fitted_until(earlier, CUTS) == 60
    assert [tuple(row) for row in training_positives(events, config(), 60).collect()] == [("u", "i")]
    with pytest.raises(ConfigError, match=r"training period alone, got factors.until 1970-01-02"):
        fitted_until(config(factors={"until": "1970-01-02"}).factors, CUTS)


def test_an_unseen_pair_of_one_circle_scores_high_and_no_order_changes_a_bit(spark, config) -> None:
    options = config(factors=OPTIONS).factors
    found = collected(fit_factors(pairs_of(spark, TWO_CIRCLES, 1), options, 7))
    assert set(found["user"]) == {user for user, _ in TWO_CIRCLES}
    assert {len(vector) for side in found.values() for vector in side.values()} == {3}
    unseen, across = (found["user"]["a1"] @ found["item"][item] for item in ("a3", "b3"))
    assert unseen > 0.2 > 0.05 > abs(across)
    sides = {side: (pa.array(list(side_)), np.stack(list(side_.values()))) for side, side_ in found.items()}
    factors = Factors({s: ids for s, (ids, _) in sides.items()}, {s: v for s, (_, v) in sides.items()}, 10.0, 0.1, 0)
    history = [item for user, item in TWO_CIRCLES if user == "a1"]
    np.testing.assert_allclose(factors.fold_in(pa.array([history]))[0], found["user"]["a1"], rtol=1e-3, atol=1e-4)
    again = collected(fit_factors(pairs_of(spark, TWO_CIRCLES[::-1], 4), options, 7))
    for side, vectors in found.items():
        assert vectors.keys() == again[side].keys()
        assert all(np.array_equal(vector, again[side][key]) for key, vector in vectors.items())


def test_a_period_without_positives_is_explained(spark, config) -> None:
    with pytest.raises(InputError, match=r"there are none; check labels\.positive_actions"):
        fit_factors(pairs_of(spark, TWO_CIRCLES, 1).where("user_id = ''"), config(factors={}).factors, 7)
