"""A search as MLflow sees it: one run, and a run nested in it for every trial."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mlflow
from mlflow.entities import Metric, Param

from pipelines.config import Config
from pipelines.tracking.runs import CHALLENGER, log_metrics
from pipelines.tracking.store import connect, explained

SEARCH_TAG = "thaw.search"
"""Tag of a search's run: which search it is, so that one that was stopped goes on in the same run."""
_TEXT = 6000


class TrackedSearch:
    """The run of a search."""

    def __init__(self, client: Any, experiment_id: str, run_id: str) -> None:
        self._client, self._experiment_id, self.run_id = client, experiment_id, run_id

    @explained()
    def log_trial(
        self, name: str, changes: Mapping[str, Any], history: Sequence[float], metrics: Mapping[str, float], state: str
    ) -> None:
        """A finished trial: its options, its validation accuracy by epoch, and what it came to."""
        tags = {"mlflow.parentRunId": self.run_id, "mlflow.runName": name, "thaw.state": state}
        run = self._client.create_run(self._experiment_id, tags=tags, run_name=name)
        params = [Param(key, str(value)[:_TEXT]) for key, value in changes.items()]
        self._client.log_batch(run.info.run_id, params=params)
        told = [Metric("epoch/validation_accuracy", value, 0, epoch) for epoch, value in enumerate(history, 1)]
        told += [Metric(key, float(value), 0, 0) for key, value in metrics.items()]
        log_metrics(self._client, run.info.run_id, told)
        self._client.set_terminated(run.info.run_id)

    @explained()
    def log_texts(self, files: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Artifacts of the search itself, and what it found."""
        for name, text in files.items():
            self._client.log_text(self.run_id, text, name)
        log_metrics(self._client, self.run_id, [Metric(key, float(value), 0, 0) for key, value in metrics.items()])


@contextmanager
def tracked_search(config: Config, root: str, key: str) -> Iterator[TrackedSearch]:
    """The run of the search with this key: the one that was begun before, else a new one."""
    client, experiment_id, run_id = _opened(config, root, key)
    status = "FAILED"
    try:
        yield TrackedSearch(client, experiment_id, run_id)
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)


@explained()
def _opened(config: Config, root: str, key: str) -> tuple[Any, str, str]:
    client = connect(config, root)
    experiment = mlflow.get_experiment_by_name(config.tracking.experiment)
    begun = client.search_runs([experiment.experiment_id], f"tags.`{SEARCH_TAG}` = '{key}'", max_results=1)
    if begun:
        run_id = begun[0].info.run_id
        client.update_run(run_id, "RUNNING")
    else:
        name = f"search-{config.name}-{config.seed}"
        run_id = client.create_run(experiment.experiment_id, tags={SEARCH_TAG: key}, run_name=name).info.run_id
        options = config.search.model_dump(mode="json").items()
        client.log_batch(run_id, params=[Param(f"search.{option}", str(value)[:_TEXT]) for option, value in options])
    return client, experiment.experiment_id, run_id


@explained()
def make_challenger(config: Config, root: str, name: str, version: str) -> None:
    """Give a registered version the alias of the one that is to be judged next."""
    connect(config, root).set_registered_model_alias(name, CHALLENGER, version)
