"""Registered versions by name: what an address of the registry stands for, and the scorer behind it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException

from pipelines.config import Config
from pipelines.errors import TrackingError, WorkspaceError
from pipelines.retrieval.scorer import Scorer
from pipelines.storage import Dataset
from pipelines.tracking.runs import AUDIT_TAG, SCORER
from pipelines.tracking.store import connect, explained


@dataclass(frozen=True)
class Registered:
    """One version of a registered model."""

    name: str
    version: str
    audit: str
    """`passed`, or `unaudited`."""

    @classmethod
    def of(cls, found: Any) -> "Registered":
        """From MLflow's own description of a version."""
        return cls(found.name, str(found.version), found.tags.get(AUDIT_TAG, "unaudited"))

    @property
    def uri(self) -> str:
        """Its address; unlike an alias's, it always means the same."""
        return f"models:/{self.name}/{self.version}"

    @explained()
    def files(self, artifact: str) -> str:
        """A local folder with the files of one of its artifacts."""
        folder: str = artifacts.download_artifacts(artifact_uri=self.uri)
        return f"{folder.rstrip('/')}/artifacts/{artifact}"

    def load(self) -> Scorer:
        """Its scorer."""
        return Scorer.load(self.files(SCORER))


@explained()
def aliased(client: MlflowClient, name: str, alias: str) -> Registered | None:
    """The version behind an alias, or None where there is no such model or alias."""
    try:
        return Registered.of(client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        # A store says so in two ways: no such model, no such alias. Any other trouble is not an absence.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


@explained()
def records_digest(client: MlflowClient, version: Registered) -> str:
    """Content digest of the records that a version was trained on; empty where its run does not say."""
    run_id = client.get_model_version(version.name, version.version).run_id
    return str(client.get_run(run_id).data.tags.get("thaw.records_digest", "")) if run_id else ""


@explained()
def registered(client: MlflowClient, address: str) -> Registered:
    """The version that `models:/NAME/VERSION` or `models:/NAME@ALIAS` stands for; `models:/` may be left out.

    Raises TrackingError where there is none.
    """
    match = re.fullmatch(r"(?:models:/)?([^/:@]+)(?:/(\d+)|@([^/:@]+))", address)
    if match is None:
        raise TrackingError(f"a registered model must be models:/NAME/VERSION or models:/NAME@ALIAS, got {address!r}")
    name, version, alias = match.groups()
    if version is not None:
        return Registered.of(client.get_model_version(name, version))
    found = aliased(client, name, alias)
    if found is None:
        raise TrackingError(f"{address} must be a registered version, {name} has no alias {alias}; name another")
    return found


def lookup(config: Config, root: str, address: str) -> Registered:
    """`registered`, in the store of a configuration and output folder."""
    return registered(connect(config, root), address)


def registered_as(model: Dataset) -> str:
    """The address of the version that a published `model` was registered as; empty where that is still to be done."""
    notes = model.manifest.notes
    return f"models:/{notes['name']}/{notes['version']}" if "version" in notes else ""


def require_registered(model: Dataset) -> tuple[str, str, str]:
    """Name, version and run of a published model. Raises WorkspaceError where it is not registered yet."""
    notes, dataset = model.manifest.notes, model.manifest.dataset
    if "version" not in notes:
        raise WorkspaceError(
            f"the current `{dataset}` must be registered, MLflow was away when it was made; run "
            f"`thaw train_{'dropoutnet' if dataset == 'model' else dataset}` again, which only registers it"
        )
    return str(notes["name"]), str(notes["version"]), str(notes["run_id"])


def require_columns(scorer: Scorer, columns: Iterable[str], model: str, of: str) -> None:
    """Raises WorkspaceError where a scorer reads a feature that is not among `columns`."""
    missing = sorted({*scorer.columns("user"), *scorer.columns("item")} - set(columns))
    if missing:
        raise WorkspaceError(
            f"{model} must find the features that it was trained on, these {of} do not have {', '.join(missing[:3])}; "
            "use the configuration that it was trained with, or promote a model of the present one: remove the alias "
            "`champion` first where it stands in the way"
        )
