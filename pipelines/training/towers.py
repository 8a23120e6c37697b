"""One training of the towers, from a configuration and its records to a scorer. Where both come from is the jobs'."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipelines.config import Config
from pipelines.content.layout import factor_inputs, without
from pipelines.models.dropoutnet import DropoutNet, build_dropoutnet
from pipelines.retrieval.factors import Factors
from pipelines.retrieval.scorer import Scorer
from pipelines.storage import Dataset
from pipelines.training.calibrate import calibrate
from pipelines.training.catalogue import with_catalogue
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.distribution import ALONE, Devices, check_divides
from pipelines.training.factors import WithFactors, with_factors
from pipelines.training.fit import Rows, fit
from pipelines.training.history import History
from pipelines.training.input import Input, damage_named, open_input
from pipelines.training.read_facts import read_facts
from schemas.fitted import EncoderState

Start = Callable[[DropoutNet, EncoderState, Factors | None], None]
"""(built model, its inputs, reference factors): gives the model the weights that it starts from."""


@dataclass(frozen=True)
class Trained:
    """What came of a training."""

    scorer: Scorer
    history: History


def needs_factors(config: Config) -> bool:
    """Whether training reconstructs or reads the reference factors."""
    return bool(config.model.factors or config.training.losses.reconstruction)


def train_towers(
    config: Config,
    records: Dataset,
    factors: Factors | None = None,
    start: Start | None = None,
    checkpoints: Checkpoints | None = None,
    devices: Devices = ALONE,
) -> Trained:
    """Build, fit and calibrate as the configuration says; its best epoch. Without `start`, from scratch.

    With `checkpoints`, as `fit` goes on from them. `devices` share every batch; the result is the same in each of their
    processes.
    """
    options, seed = config.training, config.seed
    state = EncoderState.model_validate(records.read_json("encoder"))
    state = state.model_copy(update={"inputs": without(state.inputs, config.model.leave_out)})
    check_divides(devices.parts, "training.batch_size", options.batch_size)
    share: dict[str, Any] = {"process_index": devices.index, "num_processes": devices.processes}
    read = open_input(records, "train", options.batch_size, seed=seed, shuffle=True, **share)
    held = open_input(records, "validation", options.batch_size, seed=seed, shuffle=False, **share)
    batches: Input | WithFactors = read
    validation: Input | WithFactors | None = held if held.rows else None
    if factors is not None:
        batches = with_factors(read, factors, config)
        validation = with_factors(held, factors, config) if held.rows else None
    train: Rows = batches
    if options.losses.catalogue_negatives:
        train = with_catalogue(batches, records, options.losses, seed)
    if factors is not None and config.model.factors:
        state = state.model_copy(update={"inputs": (*state.inputs, *factor_inputs(factors.rank))})
    model = build_dropoutnet(state.inputs, config.model, seed, state.idf)
    if start is not None:
        start(model, state, factors)
    with damage_named(read, held):
        known = read_facts(records, options)
        history = fit(
            model,
            train,
            validation,
            options,
            seed,
            facts=known,
            warm=start is not None,
            checkpoints=checkpoints,
            devices=devices,
        )
        calibration = None
        if config.model.calibrate and validation is not None:
            # All rows in every process: it is one pass, and costs little.
            calibration = calibrate(model, _alone(validation))
    return Trained(Scorer(model, state, factors if config.model.factors else None, calibration), history)


def _alone(rows: Input | WithFactors) -> Input | WithFactors:
    """All of the rows of which this process has a part."""
    if isinstance(rows, WithFactors):
        return replace(rows, rows_of=replace(rows.rows_of, process_index=0, num_processes=1))
    return replace(rows, process_index=0, num_processes=1)
