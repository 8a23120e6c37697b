"""The registered scorer, as MLflow loads it: raw feature values in, embeddings and score out.

MLflow runs this file itself ("models from code"), so nothing is pickled. It is the only file here whose import has
an effect: MLflow asks for it.
"""

import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa

# Thaw's own code comes with the registered model, as one file beside this one.
sys.path[:0] = [str(path) for path in Path(__file__).parent.glob("code/*.zip")]

from pipelines.retrieval.fresh import NEW_ITEMS, with_new_items
from pipelines.retrieval.scorer import Scorer
from pipelines.tracking.frames import as_table, plain


class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Both towers with their vocabularies and normalisers.

    A row holds the columns of one user and one item (`schemas/examples.py`); any may be missing or null: what is
    missing is scored as new. A further column `user_new_items` lists what the user has had a positive with since the
    row was made: it goes into the bag of item ids and, of towers that read reference factors, into the user's.
    Columns out: `score`, `click_probability` (calibrated where `model.calibrate` was set), `user_embedding` and
    `item_embedding` (of length 1 where similarity is the cosine).
    """

    def load_context(self, context: Any) -> None:
        """Load towers and encoder from the logged artifact."""
        self.scorer = Scorer.load(context.artifacts["scorer"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score each row's user with its item."""
        rows = as_table(model_input, self.scorer.columns("user"))
        if NEW_ITEMS in model_input.columns:
            new = pa.array([plain(value) for value in model_input[NEW_ITEMS]], pa.list_(pa.string()))
            rows = with_new_items(rows, new)
        users = self.scorer.embed("user", rows)
        items = self.scorer.embed("item", as_table(model_input, self.scorer.columns("item")))
        scores = self.scorer.score_pairs(users, items)
        return pd.DataFrame(
            {
                "score": scores.astype(np.float64),
                "click_probability": self.scorer.click_probabilities(scores).astype(np.float64),
                "user_embedding": [row.tolist() for row in users],
                "item_embedding": [row.tolist() for row in items],
            }
        )


mlflow.models.set_model(ServedModel())
