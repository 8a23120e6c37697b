"""The registered classifier, as MLflow loads it: uint8 images in, probabilities and content vectors out.

MLflow runs this file itself ("models from code"). It imports nothing of Thaw: whoever serves a classifier needs Keras
alone, or Faiss for nearest neighbours.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np


class ServedClassifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Images (n, height, width, channels), uint8, as the signature says, to arrays by name.

    `probabilities` (n, C), in the order of `classes` in the logged classifier.json: of a network the softmax of its
    scores, of nearest neighbours the shares of votes. `embedding` (n, d), of networks alone: the content vector.
    """

    def load_context(self, context: Any) -> None:
        """Load from the logged artifact."""
        folder = Path(context.artifacts["classifier"])
        self.classes = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))["classes"]
        if (folder / "neighbours.npz").exists():
            import faiss

            with np.load(folder / "neighbours.npz", allow_pickle=False) as held:
                vectors = np.ascontiguousarray(held["vectors"], np.float32)
                self.labels, self.k = held["labels"], int(held["k"])
                metric = faiss.METRIC_L1 if str(held["distance"]) == "l1" else faiss.METRIC_L2
            self.model, self.index = None, faiss.IndexFlat(vectors.shape[1], metric)
            self.index.add(vectors)
            return
        import keras

        model = keras.saving.load_model(folder / "classifier.keras", compile=False, safe_mode=True)
        outputs = [model.get_layer(name).output for name in ("scores", "features")]
        self.model = keras.Model(model.input, outputs)

    # Of other types MLflow would warn that it makes no signature of them.
    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> dict[str, Any]:  # type: ignore[type-arg]
        """Classify and embed."""
        images = np.asarray(model_input)
        if self.model is None:
            _, found = self.index.search(np.ascontiguousarray(images.reshape(len(images), -1), np.float32), self.k)
            votes = self.labels[found][:, :, None] == np.arange(len(self.classes))
            return {"probabilities": votes.mean(axis=1, dtype=np.float32)}
        scores, features = (np.asarray(part, np.float32) for part in self.model.predict(images, verbose=0))
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        return {"probabilities": shares, "embedding": features.reshape(len(images), -1)}


mlflow.models.set_model(ServedClassifier())
