"""A trained classifier as an MLflow run: options, epochs, learning curves, and the registered version."""

import importlib.metadata
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import mlflow
import numpy as np
from mlflow.entities import Metric
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from pipelines.config import Config
from pipelines.evaluation.page import curve_charts, fill
from pipelines.tracking.runs import CHALLENGER, log_made_from, log_metrics
from pipelines.tracking.store import connect, explained, model_name
from schemas.classifier import CLASSIFIER_FILES, ClassifierState
from schemas.manifest import Manifest

CLASSIFIER = "classifier"
"""The logged model's name, and its artifact's."""
_KERAS = ("mlflow", "tensorflow", "keras", "numpy")
_NEAREST = ("mlflow", "faiss-cpu", "numpy")


def classifier_name(config: Config) -> str:
    """The registered classifier's name, beside that of the towers."""
    return f"{model_name(config)}_classifier"


@explained()
def log_classifier(
    config: Config,
    root: str,
    *,
    folder: str,
    state: ClassifierState,
    length: int,
    records: Manifest,
    records_path: str,
    history: Mapping[str, Any],
    costs: Mapping[str, int],
) -> dict[str, str]:
    """Log a finished training and register what `SavedClassifier.save` wrote to `folder`, as `challenger`.

    `length`: of a content vector, 0 where there is none. Returns run_id, model name and version.
    """
    client, name = connect(config, root), classifier_name(config)
    with mlflow.start_run(run_name=f"{config.name}-{state.family}-{config.seed}") as run:
        run_id: str = run.info.run_id
        log_made_from(client, run_id, config, history["epochs"], records, records_path)
        log_metrics(client, run_id, [Metric(key, float(value), 0, 0) for key, value in costs.items()])
        curves = fill("curves.html.j2", name=name, curves=curve_charts(history), best_epoch=history["best_epoch"])
        mlflow.log_text(curves, "learning_curves.html")
        with tempfile.TemporaryDirectory() as here:
            # MLflow files an artifact under its folder's name, which has to be the same in every version.
            local = Path(here) / CLASSIFIER
            local.mkdir()
            fs, source = fsspec.core.url_to_fs(folder)
            for file in (file for file in CLASSIFIER_FILES.values() if fs.exists(f"{source}/{file}")):
                fs.get_file(f"{source}/{file}", str(local / file))
            packages = _NEAREST if state.family == "nearest" else _KERAS
            logged = mlflow.pyfunc.log_model(
                name=CLASSIFIER,
                python_model=str(Path(__file__).with_name("served_classifier.py")),
                artifacts={CLASSIFIER: str(local)},
                pip_requirements=[f"{package}=={importlib.metadata.version(package)}" for package in packages],
                signature=classifier_signature(state, length),
                input_example=np.zeros((1, *state.shape), np.uint8),
                registered_model_name=name,
            )
    version = str(logged.registered_model_version)
    client.set_registered_model_alias(name, CHALLENGER, version)
    client.update_model_version(
        name, version, f"{state.family}, trained on image records {records.content_digest[:12]}."
    )
    return {"run_id": run_id, "name": name, "version": version}


def classifier_signature(state: ClassifierState, length: int) -> ModelSignature:
    """Images in; probabilities and, where there are any, content vectors out."""
    outputs = [TensorSpec(np.dtype(np.float32), (-1, len(state.classes)), "probabilities")]
    if length:
        outputs.append(TensorSpec(np.dtype(np.float32), (-1, length), "embedding"))
    return ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *state.shape))]), outputs=Schema(outputs))
