"""A trained classifier as an MLflow run: options, epochs, learning curves, and the registered version."""

from collections.abc import Mapping
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import Metric
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

from pipelines.config import Config
from pipelines.evaluation.page import curve_charts, fill
from pipelines.models.saved_items import SAVED_ITEMS
from pipelines.storage import Dataset, Workspace
from pipelines.tracking.provenance import LINEAGE, provenance
from pipelines.tracking.runs import (
    SERVING,
    TYPES,
    introduce,
    local_copy,
    log_made_from,
    log_metrics,
    own_code,
    requirements,
)
from pipelines.tracking.store import connect, explained, model_name
from schemas.classifier import CLASSIFIER_FILES, ClassifierState
from schemas.columns import ColumnType

CLASSIFIER = "classifier"
"""The logged model's name, and its artifact's."""
CONTENT_CLASSIFIER = "content_classifier"
"""The same of a classifier of items' content."""
_KERAS = ("mlflow", "tensorflow", "keras", "numpy")
_NEAREST = ("mlflow", "faiss-cpu", "numpy")


def classifier_name(config: Config) -> str:
    """The registered classifier's name, beside that of the towers."""
    return f"{model_name(config)}_classifier"


@explained()
def log_classifier(
    config: Config, workspace: Workspace, classifier: Dataset, records: Dataset, *, state: ClassifierState, length: int
) -> dict[str, str]:
    """Log a finished training, the published `classifier`, and register it as `challenger`.

    `length`: of a content vector, 0 where there is none. Returns run_id, model name and version.
    """
    client, name = connect(config, workspace.root), classifier_name(config)
    history = classifier.read_json("history")
    with mlflow.start_run(run_name=f"{config.name}-{state.family}-{config.seed}") as run:
        run_id: str = run.info.run_id
        log_made_from(client, run_id, config, history["epochs"], records, classifier)
        mlflow.log_dict(provenance(config, workspace, classifier), LINEAGE)
        facts = classifier.manifest.facts
        log_metrics(
            client, run_id, [Metric(cost, float(facts[cost]), 0, 0) for cost in ("parameters", "multiply_adds")]
        )
        curves = fill("curves.html.j2", name=name, curves=curve_charts(history), best_epoch=history["best_epoch"])
        mlflow.log_text(curves, "learning_curves.html")
        with local_copy(classifier.path, CLASSIFIER, CLASSIFIER_FILES.values()) as saved:
            logged = mlflow.pyfunc.log_model(
                name=CLASSIFIER,
                python_model=str(Path(__file__).with_name("served_classifier.py")),
                artifacts={CLASSIFIER: saved},
                pip_requirements=requirements(_NEAREST if state.family == "nearest" else _KERAS),
                signature=classifier_signature(state, length),
                input_example=np.zeros((1, *state.shape), np.uint8),
                registered_model_name=name,
            )
    version = str(logged.registered_model_version)
    description = f"{state.family}, trained on image records {records.manifest.content_digest[:12]}."
    introduce(client, name, version, classifier, description)
    return {"run_id": run_id, "name": name, "version": version}


@explained()
def log_content_classifier(
    config: Config, workspace: Workspace, classifier: Dataset, clean: Dataset, columns: Mapping[str, ColumnType]
) -> dict[str, str]:
    """Log a finished training on items' content, the published `classifier`, and register it as `challenger`.

    `clean` is what it was trained on, `columns` the raw ones that it reads. Returns run_id, model name and version.
    """
    facts = classifier.manifest.facts
    client, name = connect(config, workspace.root), f"{model_name(config)}_{facts['label']}_classifier"
    history = classifier.read_json("history")
    with mlflow.start_run(run_name=f"{config.name}-{facts['label']}-{facts['family']}-{config.seed}") as run:
        run_id: str = run.info.run_id
        log_made_from(client, run_id, config, history["epochs"], clean, classifier)
        mlflow.log_dict(provenance(config, workspace, classifier), LINEAGE)
        costs = [Metric(cost, float(facts[cost]), 0, 0) for cost in ("parameters", "multiply_adds")]
        log_metrics(client, run_id, [*costs, *(Metric(key, float(v), 0, 0) for key, v in facts["best"].items())])
        with local_copy(classifier.path, CONTENT_CLASSIFIER, SAVED_ITEMS.values()) as files, own_code() as code:
            logged = mlflow.pyfunc.log_model(
                name=CONTENT_CLASSIFIER,
                python_model=str(Path(__file__).with_name("served_items.py")),
                artifacts={CONTENT_CLASSIFIER: files},
                code_paths=[code],
                pip_requirements=requirements((*SERVING, "faiss-cpu")),
                signature=ModelSignature(
                    Schema([ColSpec(TYPES[kind], column, required=False) for column, kind in columns.items()]),
                    Schema([ColSpec(DataType.string, "label"), ColSpec(Array(DataType.double), "probabilities")]),
                ),
                registered_model_name=name,
            )
    version = str(logged.registered_model_version)
    told = f"{facts['family']}, tells {facts['label']} of items from their other content."
    introduce(client, name, version, classifier, told)
    return {"run_id": run_id, "name": name, "version": version}


def classifier_signature(state: ClassifierState, length: int) -> ModelSignature:
    """Images in; probabilities and, where there are any, content vectors out."""
    outputs = [TensorSpec(np.dtype(np.float32), (-1, len(state.classes)), "probabilities")]
    if length:
        outputs.append(TensorSpec(np.dtype(np.float32), (-1, length), "embedding"))
    return ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *state.shape))]), outputs=Schema(outputs))
