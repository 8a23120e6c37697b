"""The registered classifier of items' content, as MLflow loads it: raw content in, the most probable label out.

MLflow runs this file itself ("models from code"), so nothing is pickled.
"""

import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

# Thaw's own code comes with the registered model, as one file beside this one.
sys.path[:0] = [str(path) for path in Path(__file__).parent.glob("code/*.zip")]

from pipelines.models.saved_items import SavedItems
from pipelines.tracking.frames import as_table


class ServedItems(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Rows hold content columns of items, any of which may be missing or null.

    Columns out: `label`, and `probabilities` in the order of `classes` in the logged classifier.json (of nearest
    neighbours the shares of votes).
    """

    def load_context(self, context: Any) -> None:
        """Load encoder and classifier from the logged artifact."""
        self.saved = SavedItems.load(context.artifacts["content_classifier"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classify each row."""
        found = self.saved.probabilities(as_table(model_input, self.saved.columns))
        labels = [self.saved.classes[place] for place in found.argmax(axis=1)]
        return pd.DataFrame({"label": labels, "probabilities": found.astype(float).tolist()})


mlflow.models.set_model(ServedItems())
