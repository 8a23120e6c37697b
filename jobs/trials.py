"""What jobs that train share: the backend as part of their keys, and trials, found where they were made before."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from jobs.launch import Context, Draft, Outcome, find_or_make
from pipelines.code import code_version
from pipelines.config import Config
from schemas.manifest import digest


def backend(config: Config) -> str:
    """What a training depends on besides its options: the backend decides on the weights too."""
    return str(keras.backend.backend())


def kept_trial(
    context: Context,
    dataset: str,
    parts: Sequence[Any],
    write: Callable[[str], Draft],
    *,
    config: Config,
    sections: Sequence[str],
    parents: Mapping[str, str],
) -> Outcome:
    """A version of `dataset` for each trial: that of these `parts`, parents, backend and code, or what `write` makes.

    So what was tried stays tried, however a run of many trials ends.
    """
    return find_or_make(
        context.workspace,
        dataset,
        digest([dataset, *parts, parents, backend(config), code_version()]),
        write,
        config=config,
        sections=sections,
        parents=parents,
        force=False,
        started=time.monotonic(),
    )
