"""One MLflow run per training: parameters, per-epoch metrics, the dataset by its digest, and the registered scorer."""

import importlib.metadata
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import mlflow
from mlflow import MlflowClient
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Param
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from pipelines.config import Config, redacted
from pipelines.features import feature_set
from pipelines.records.audited import audit_state
from pipelines.retrieval.fresh import NEW_ITEMS
from pipelines.retrieval.scorer import FILES
from pipelines.tracking.store import connect, explained, model_name
from schemas.manifest import Manifest

CHALLENGER = "challenger"
CHAMPION = "champion"
AUDIT_TAG = "thaw.audit"
"""Tag of runs and versions: `passed`, or `unaudited`."""
FROM_TAG = "thaw.from"
"""Tag of runs that started from a registered version's weights: which."""
SCORER = "scorer"
"""The logged model's name, and its artifact's."""
_PACKAGES = Path(__file__).resolve().parents[2]
_SERVING = ("mlflow", "tensorflow", "keras", "numpy", "pandas", "pyarrow", "pydantic", "fsspec", "PyYAML")
_TYPES = {
    "string": DataType.string,
    "float64": DataType.double,
    "list<string>": Array(DataType.string),
    "list<float32>": Array(DataType.float),
}


class ManifestSource(DatasetSource):  # type: ignore[misc]
    """A published dataset as MLflow's dataset source: where its manifest is."""

    def __init__(self, path: str) -> None:
        self.path = path

    @staticmethod
    def _get_source_type() -> str:
        return "thaw_manifest"

    def load(self, **kwargs: Any) -> str:
        """The dataset's folder."""
        return self.path

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> "ManifestSource":
        raise NotImplementedError

    def to_dict(self) -> dict[str, str]:
        """As logged."""
        return {"path": self.path}

    @classmethod
    def from_dict(cls, source_dict: dict[str, str]) -> "ManifestSource":
        """From what was logged."""
        return cls(source_dict["path"])


@explained()
def log_training(
    config: Config,
    root: str,
    *,
    scorer: str,
    records: Manifest,
    records_path: str,
    history: Sequence[Mapping[str, float]],
    trained_from: str = "",
) -> dict[str, str]:
    """Log a finished training and register its scorer as `challenger`.

    `scorer` is the folder that `Scorer.save` wrote; `history` one mapping of `epoch` (1, 2, …) and metrics per epoch;
    `trained_from` the registered version whose weights it started from.
    Returns run_id, model name and version.
    """
    client = connect(config, root)
    name = model_name(config)
    with mlflow.start_run(run_name=f"{config.name}-{config.seed}") as run:
        run_id: str = run.info.run_id
        log_made_from(client, run_id, config, history, records, records_path)
        mlflow.set_tags(
            {
                AUDIT_TAG: audit_state(records),
                "thaw.audit_digest": records.parents.get("audit", "none"),
                **({FROM_TAG: trained_from} if trained_from else {}),
            }
        )
        with tempfile.TemporaryDirectory() as folder:
            # MLflow files an artifact under its folder's name, which has to be the same in every version.
            local = Path(folder) / SCORER
            local.mkdir()
            fs, source = fsspec.core.url_to_fs(scorer)
            for file in (file for file in FILES.values() if fs.exists(f"{source}/{file}")):
                fs.get_file(f"{source}/{file}", str(local / file))
            logged = mlflow.pyfunc.log_model(
                name=SCORER,
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts={SCORER: str(local)},
                code_paths=[str(_PACKAGES / "schemas"), str(_PACKAGES / "pipelines")],
                pip_requirements=[f"{package}=={importlib.metadata.version(package)}" for package in _SERVING],
                signature=signature(config),
                registered_model_name=name,
            )
    version = str(logged.registered_model_version)
    client.set_registered_model_alias(name, CHALLENGER, version)
    client.set_model_version_tag(name, version, AUDIT_TAG, audit_state(records))
    client.update_model_version(name, version, _description(records))
    return {"run_id": run_id, "name": name, "version": version}


def log_made_from(
    client: MlflowClient,
    run_id: str,
    config: Config,
    epochs: Sequence[Mapping[str, float]],
    records: Manifest,
    records_path: str,
) -> None:
    """What a training was made from, in the run that is active: configuration, records by their digest; its epochs."""
    params = [Param(key, str(value)[:6000]) for key, value in flatten(redacted(config.model_dump(mode="json")))]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])
    metrics = [
        Metric(f"epoch/{key}", float(value), 0, int(row["epoch"]))
        for row in epochs
        for key, value in row.items()
        if key != "epoch"
    ]
    log_metrics(client, run_id, metrics)
    mlflow.log_input(
        # MLflow's own array digests read 10,000 elements; the manifest's covers every byte.
        MetaDataset(ManifestSource(redacted(records_path)), name="records", digest=records.content_digest[:32]),
        context="training",
    )
    mlflow.set_tags({"thaw.records_digest": records.content_digest, "thaw.code_version": records.code_version})
    mlflow.log_dict(json.loads(records.to_json()), "records_manifest.json")


def _description(records: Manifest) -> str:
    """Of a registered version, for people."""
    if audit_state(records) == "passed":
        return f"Trained on records {records.content_digest[:12]}, whose examples passed the leakage audit."
    return f"UNAUDITED: the examples of records {records.content_digest[:12]} passed no leakage audit. For trials only."


def signature(config: Config) -> ModelSignature:
    """Raw feature columns in, all optional (missing is what cold means); score and embeddings out."""
    columns = {column.name: column.type for column in feature_set(config).side_columns}
    if config.model.factors:
        columns |= {"user_id": "string", "item_id": "string"}
    if config.model.factors or "item_id" in config.preferences.recent:
        columns[NEW_ITEMS] = "list<string>"
    return ModelSignature(
        inputs=Schema([ColSpec(_TYPES[kind], name, required=False) for name, kind in columns.items()]),
        outputs=Schema(
            [
                ColSpec(DataType.double, "score"),
                ColSpec(DataType.double, "click_probability"),
                ColSpec(Array(DataType.double), "user_embedding"),
                ColSpec(Array(DataType.double), "item_embedding"),
            ]
        ),
    )


@explained()
def log_evaluation(client: MlflowClient, run_id: str, metrics: Mapping[str, Any]) -> None:
    """Add `split/slice/metric` values and their interval ends to a run. `metrics` is split -> slice -> metric."""
    values = [
        Metric(metric_key(split, piece, metric, part), float(entry[part]), 0, 0)
        for split, slices in metrics.items()
        for piece, named in slices.items()
        for metric, entry in named.items()
        for part in ("value", "low", "high")
        if entry.get(part) is not None
    ]
    log_metrics(client, run_id, values)


def log_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    """Log any number of metrics, as many at a time as MLflow takes."""
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


@explained()
def log_files(config: Config, root: str, run_id: str, paths: Iterable[str]) -> None:
    """Add files (the report, the summary) to a run."""
    client = connect(config, root)
    for path in paths:
        client.log_artifact(run_id, path)


def metric_key(split: str, piece: str, metric: str, part: str = "value") -> str:
    """The MLflow key of a metric: `test/all/ndcg_at_10`, with `_low` and `_high` for the interval's ends."""
    ending = "" if part == "value" else f"_{part}"
    return f"{split}/{piece}/{metric.replace('@', '_at_')}{ending}".replace("+", "_plus")


def flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Nested options as dotted names.

    >>> flatten({"a": {"b": 1}, "c": [2]})
    [('a.b', 1), ('c', [2])]
    """
    if isinstance(value, dict) and value:
        return [pair for key, inner in value.items() for pair in flatten(inner, f"{prefix}{key}.")]
    return [(prefix.rstrip("."), value)]
