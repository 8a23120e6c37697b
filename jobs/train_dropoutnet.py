"""Train the two towers on the records, keep the best epoch, and register the whole scorer as challenger."""

import argparse
import sys

from jobs import processes
from jobs.launch import Context, Draft, Job, add_shorthand, made_of, main
from jobs.processes import together
from jobs.trials import backend
from pipelines.config import Config
from pipelines.errors import ConfigError
from pipelines.models.dropoutnet import DropoutNet
from pipelines.models.warm_start import warm_start
from pipelines.records.audited import require_audit
from pipelines.retrieval.factors import Factors
from pipelines.retrieval.scorer import Scorer
from pipelines.storage import Dataset, Workspace, write_json
from pipelines.tracking.registered import lookup, registered_as
from pipelines.tracking.runs import log_training
from pipelines.training.checkpoints import checkpoints_of
from pipelines.training.distribution import Devices
from pipelines.training.towers import Start, Trained, needs_factors, train_towers
from schemas.fitted import EncoderState


def run(context: Context) -> Draft:
    """Train, save."""
    options = context.config.training
    sizes = {
        "training.batch_size": options.batch_size,
        "training.losses.catalogue_negatives": options.losses.catalogue_negatives,
    }
    return _published(context, train(context, together(JOB, context, sizes)))


def train(context: Context, devices: Devices) -> Trained:
    """What every process of a training does."""
    require_audit(context.parents["records"].manifest, context.config.training.allow_unaudited)
    factors = Factors.read(context.parents["factors"]) if "factors" in context.parents else None
    start = context.config.training.start_from
    checkpoints = checkpoints_of(
        context.workspace,
        JOB.dataset,
        context.key,
        context.config.checkpoints,
        context.say,
        writes=devices.index == 0,
    )
    return train_towers(
        context.config,
        context.parents["records"],
        factors,
        _start(context, start) if start else None,
        checkpoints,
        devices,
    )


def _published(context: Context, trained: Trained) -> Draft:
    """What is published of it."""
    config, records = context.config, context.parents["records"]
    audited = require_audit(records.manifest, config.training.allow_unaudited)
    start = config.training.start_from or ""
    scorer, history = trained.scorer, trained.history
    calibration = scorer.calibration
    if config.model.calibrate and calibration is None:
        context.say(
            "note: scores are not calibrated: that needs validation rows of both labels, and scores that tell them"
        )
    tables = Scorer.save(context.staging, scorer.model, scorer.encoder.state, scorer.factors, calibration)
    told = history.to_json()
    tables["history"] = write_json(context.staging, "history.json", told)
    facts = {
        "audit": audited,
        "best_epoch": history.best_epoch,
        "epochs": len(history.epochs),
        **({"calibration": calibration.model_dump()} if calibration else {}),
        "weights": tables["towers"].shards[0].sha256,
        **({"from": start} if start else {}),
        "best": history.best.metrics,
    }
    speeds = [round(epoch.examples_per_s) for epoch in history.epochs]
    return Draft(tables, facts, records.manifest.as_of, {"examples_per_s": speeds})


def register(context: Context, model: Dataset) -> dict[str, str]:
    """Log the training, and register the scorer as challenger."""
    return log_training(context.config, context.workspace, model, context.parents["records"])


def _start(context: Context, start: str) -> Start:
    """Gives a model the weights of a registered one. Raises ConfigError where that one read other factors."""

    def weights(model: DropoutNet, state: EncoderState, factors: Factors | None) -> None:
        trained = lookup(context.config, context.workspace.root, start).load()
        if trained.factors is not None and factors is not None and trained.factors.to_bytes() != factors.to_bytes():
            raise ConfigError(
                f"a model that reads reference factors must go on with the same ones, {start} has others: each fit "
                "lies in a space of its own; leave out --from, or set model.factors to false in both"
            )
        new = warm_start(model, state, trained.model, trained.encoder.state)
        context.say(f"note: training starts from {start}; {new:,} values of its vocabularies are new")

    return weights


def needed(config: Config) -> tuple[str, ...]:
    """The reference factors, where training reconstructs or reads them."""
    return ("factors",) if needs_factors(config) else ()


def pinned(config: Config, workspace: Workspace) -> Config:
    """`config` with the version, for an alias, that training starts from.

    An alias that has come to stand for the current model, made of the records at hand, means what that one started
    from: the same command, run again after a promotion, has nothing to do.
    """
    start = config.training.start_from
    if start is None:
        return config
    version = lookup(config, workspace.root, start).uri
    model, records = workspace.current("model"), workspace.current("records")
    if "@" in start and model and records and registered_as(model) == version and made_of(model, records):
        version = model.manifest.facts.get("from", version)
    return config.model_copy(update={"training": config.training.model_copy(update={"start_from": version})})


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to start from."""
    meaning = "start from a registered model's weights: models:/NAME/VERSION or models:/NAME@ALIAS"
    add_shorthand(parser, "--from", "training.start_from", "MODEL", meaning)
    processes.add_arguments(parser)


def instead(arguments: argparse.Namespace, config: Config, workspace: Workspace) -> bool:
    """A process but the first of several trains its part, and publishes nothing."""
    return processes.instead(JOB, arguments, config, workspace, train)


JOB = Job(
    name="train_dropoutnet",
    dataset="model",
    parents=("records",),
    sections=("name", "model", "training", "tracking", "factors"),
    run=run,
    register=register,
    needs=needed,
    pinned=pinned,
    depends=backend,
    arguments=arguments,
    instead=instead,
    around=processes.around,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
