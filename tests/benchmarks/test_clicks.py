"""The training benchmark's data is the data that its goals were set for."""

import hashlib

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks._clicks import TRAIN_ROWS, make_clicks

DIGESTS = {
    "label": "929d674b66a3ab4d",
    "user": "ae90d6ae7b93916c",
    "item": "3b7c756907a2bb53",
    "user_category": "11de1540626ac752",
    "item_category": "937b9b67872b616e",
}
MEAN_AND_STD = {
    "probability": (0.2, 0.18912687),
    "user_statistic": (-0.05140929, 1.18566038),
    "item_vector": (-0.000577, 1.00009339),
    "item_statistic": (0.00316877, 1.00372813),
}


def test_clicks_are_those_that_the_goals_were_set_for() -> None:
    clicks = make_clicks()
    assert clicks.keys() == {*DIGESTS, *MEAN_AND_STD}
    for name, digest in DIGESTS.items():
        content = clicks[name].astype("<i8").tobytes()
        assert hashlib.blake2b(content, digest_size=8).hexdigest() == digest, name
    for name, expected in MEAN_AND_STD.items():
        # Products of matrices may differ in their last digits from machine to machine.
        values = clicks[name].astype("float64")
        assert (values.mean(), values.std()) == pytest.approx(expected, abs=1e-6), name
    held_out = slice(TRAIN_ROWS, None)
    auc = roc_auc_score(clicks["label"][held_out], clicks["probability"][held_out])
    assert np.round(auc, 3) == 0.8
