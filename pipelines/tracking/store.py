"""Where MLflow keeps runs and models: the configured server, or SQLite under the output folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipelines.config import Config, redacted
from pipelines.errors import ConfigError, TrackingError


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
    except MlflowException as error:
        said = redacted(str(error).strip().splitlines()[0])
        raise TrackingError(
            f"MLflow must be reachable and hold what is asked of it, it says: {said}; check tracking.uri. If its store "
            "was emptied or moved, `thaw train_dropoutnet --force` registers the model anew, `thaw train_classifier "
            "--force` a classifier"
        ) from None
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"tracking.uri must name a store whose driver is installed, {error.name} is not; install it"
        ) from None


@explained()
def connect(config: Config, root: str) -> MlflowClient:
    """Point MLflow at the store, make the experiment if it is not there, and give a client."""
    # A progress bar per artifact and a usage ping are noise in a batch job's log.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = tracking_uri(config, root)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    if client.get_experiment_by_name(config.tracking.experiment) is None:
        # A server knows where its artifacts go; the embedded store keeps them beside the data.
        place = None if config.tracking.uri else (Path(root) / "mlartifacts").as_uri()
        client.create_experiment(config.tracking.experiment, artifact_location=place)
    mlflow.set_experiment(config.tracking.experiment)
    return client


def model_name(config: Config) -> str:
    """The registered model's name."""
    return config.tracking.model_name or config.name
