"""Where MLflow keeps runs and models: the configured server, or SQLite under the output folder."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from pipelines.config import Config, redacted
from pipelines.errors import ConfigError, TrackingError, UnreachableError

_SETTINGS = {
    # A progress bar per artifact and a usage ping are noise in a batch job's log.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server that restarts is waited for: at once, then after 4, 8, 16 and 32 s. MLflow's own default is 8 minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "2",
}
"""What Thaw sets of MLflow where the environment does not."""


def tracking_uri(config: Config, root: str) -> str:
    """The configured URI, or `sqlite:///OUT/mlflow.db`. Raises ConfigError where neither can be had."""
    if config.tracking.uri:
        return config.tracking.uri
    if "://" in root:
        raise ConfigError(f"tracking.uri must be set when --out is on object storage ({root}); SQLite needs a disk")
    return f"sqlite:///{root}/mlflow.db"


@contextmanager
def explained() -> Iterator[None]:
    """Turn what MLflow refuses into one message (TrackingError). Decorates all that talks to it."""
    try:
        yield
    except (MlflowException, RequestException) as error:
        said = redacted(str(error).strip().splitlines()[0])
        if isinstance(error, RequestException) or "failed with exception" in said:
            raise UnreachableError(
                f"MLflow must be reachable, its server does not answer: {said}; start it, or correct tracking.uri, "
                "then run the same command"
            ) from None
        raise TrackingError(
            f"MLflow must be reachable and hold what is asked of it, it says: {said}; check tracking.uri. If its store "
            "was emptied or moved, `thaw train_dropoutnet --force` registers the model anew, `thaw train_classifier "
            "--force` a classifier"
        ) from None


def _point(config: Config, root: str) -> MlflowClient:
    """Point MLflow, in this whole process, at the store, and say how it behaves when a server is away."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").addFilter(_plainly)
    uri = tracking_uri(config, root)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"tracking.uri must name a store whose driver is installed, {error.name} is not; install it"
        ) from None


def _plainly(record: logging.LogRecord) -> bool:
    """Say in plain words that a request to MLflow is tried again. False for what that replaces."""
    told = record.args
    if not str(record.msg).startswith("Retrying (") or not isinstance(told, tuple) or "/mlflow" not in str(told[-1]):
        return True
    left = getattr(told[0], "total", 0)
    sys.stderr.write(f"note: MLflow's server does not answer; trying again, {left + 1} more times at most\n")
    sys.stderr.flush()
    return False


@explained()
def connect(config: Config, root: str) -> MlflowClient:
    """A client of the store. Its experiment is made if it is not there. Raises TrackingError."""
    client = _point(config, root)
    experiment = config.tracking.experiment
    if client.get_experiment_by_name(experiment) is None:
        # A server knows where its artifacts go; the embedded store keeps them beside the data.
        place = None if config.tracking.uri else (Path(root) / "mlartifacts").as_uri()
        try:
            client.create_experiment(experiment, artifact_location=place)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another run, at this very moment
                raise
    mlflow.set_experiment(experiment)
    return client


def visit(config: Config, root: str) -> MlflowClient:
    """A client of a store, for those who only read it or move an alias. Raises TrackingError where none is there."""
    uri = tracking_uri(config, root)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise TrackingError(
            f"MLflow's store must be there, {redacted(uri)} is not; set tracking.uri, or --out to the folder of the run"
        )
    return _point(config, root)


def model_name(config: Config) -> str:
    """The registered model's name."""
    return config.tracking.model_name or config.name
