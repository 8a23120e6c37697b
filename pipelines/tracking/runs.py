"""One MLflow run per training: parameters, per-epoch metrics, the dataset by its digest, and the registered scorer."""

import importlib.metadata
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from pipelines.storage import Dataset, Workspace
from pipelines.tracking.provenance import LINEAGE, provenance
from pipelines.tracking.store import connect, explained, model_name
from schemas.manifest import Manifest

CHALLENGER = "challenger"
CHAMPION = "champion"
AUDIT_TAG = "thaw.audit"
"""Tag of runs and versions: `passed`, or `unaudited`."""
DIGEST_TAG = "thaw.model_digest"
"""Tag of versions: the content digest of the published dataset that was registered."""
FROM_TAG = "thaw.from"
"""Tag of runs that started from a registered version's weights: which."""
SCORER = "scorer"
"""The logged model's name, and its artifact's."""
SERVING = ("mlflow", "tensorflow", "keras", "numpy", "pandas", "pyarrow", "pydantic", "fsspec", "PyYAML")
TYPES = {
    "string": DataType.string,
    "float64": DataType.double,
    "list<string>": Array(DataType.string),
    # What JSON and Python send: MLflow refuses to take doubles for floats.
    "list<float32>": Array(DataType.double),
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
def log_training(config: Config, workspace: Workspace, model: Dataset, records: Dataset) -> dict[str, str]:
    """Log a finished training, the published `model`, and register its scorer as `challenger`.

    Returns run_id, model name and version.
    """
    client, name = connect(config, workspace.root), model_name(config)
    trained_from = model.manifest.facts.get("from", "")
    with mlflow.start_run(run_name=f"{config.name}-{config.seed}") as run:
        run_id: str = run.info.run_id
        log_made_from(client, run_id, config, model.read_json("history")["epochs"], records, model)
        mlflow.log_dict(provenance(config, workspace, model), LINEAGE)
        mlflow.set_tags(
            {
                AUDIT_TAG: audit_state(records.manifest),
                "thaw.audit_digest": records.manifest.parents.get("audit", "none"),
                **({FROM_TAG: trained_from} if trained_from else {}),
            }
        )
        with local_copy(model.path, SCORER, FILES.values()) as scorer, own_code() as code:
            logged = mlflow.pyfunc.log_model(
                name=SCORER,
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts={SCORER: scorer},
                code_paths=[code],
                pip_requirements=requirements(SERVING),
                signature=signature(config),
                registered_model_name=name,
            )
    version = str(logged.registered_model_version)
    introduce(client, name, version, model, _description(records.manifest))
    client.set_model_version_tag(name, version, AUDIT_TAG, audit_state(records.manifest))
    return {"run_id": run_id, "name": name, "version": version}


@contextmanager
def local_copy(folder: str, name: str, files: Iterable[str]) -> Iterator[str]:
    """A folder `name` of this machine with those of `files` that a published model in `folder` has.

    MLflow files an artifact under its folder's name, which has to be the same in every version.
    """
    with tempfile.TemporaryDirectory() as parent:
        local = Path(parent) / name
        local.mkdir()
        fs, source = fsspec.core.url_to_fs(folder)
        for file in (file for file in files if fs.exists(f"{source}/{file}")):
            fs.get_file(f"{source}/{file}", str(local / file))
        yield str(local)


@contextmanager
def own_code() -> Iterator[str]:
    """The packages that a registered model is served by, as one zip that Python imports from.

    As folders they would be hundreds of files, which a server is sent, and asked for at every load, one by one.
    """
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "thaw.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for name in ("schemas", "pipelines") for path in (root / name).rglob("*.py")):
                archive.write(file, file.relative_to(root))
        yield str(path)


def requirements(packages: Iterable[str]) -> list[str]:
    """Packages as installed here, as pip asks for them."""
    return [f"{package}=={importlib.metadata.version(package)}" for package in packages]


def introduce(client: MlflowClient, name: str, version: str, model: Dataset, description: str) -> None:
    """Describe a new version, and make it the one to be judged next."""
    client.update_model_version(name, version, description)
    client.set_model_version_tag(name, version, DIGEST_TAG, model.manifest.content_digest)
    client.set_registered_model_alias(name, CHALLENGER, version)


def log_made_from(
    client: MlflowClient,
    run_id: str,
    config: Config,
    epochs: Sequence[Mapping[str, float]],
    data: Dataset,
    model: Dataset,
) -> None:
    """What `model` was made from, in the run that is active: configuration, code, `data` by its digest; its epochs."""
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
    manifest = data.manifest
    kind = "records" if manifest.dataset == "image_records" else manifest.dataset
    mlflow.log_input(
        # MLflow's own array digests read 10,000 elements; the manifest's covers every byte.
        MetaDataset(ManifestSource(redacted(data.path)), name=kind, digest=manifest.content_digest[:32]),
        context="training",
    )
    code = model.manifest.code_version
    mlflow.set_tags({f"thaw.{kind}_digest": manifest.content_digest, "thaw.code_version": code})
    mlflow.log_dict(json.loads(manifest.to_json()), f"{kind}_manifest.json")


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
        inputs=Schema([ColSpec(TYPES[kind], name, required=False) for name, kind in columns.items()]),
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
