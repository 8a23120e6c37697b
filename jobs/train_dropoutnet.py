"""Train the two towers on the records, keep the best epoch, and register the whole scorer as challenger."""

import sys

from jobs.launch import Context, Draft, Job, main
from pipelines.models.dropoutnet import build_dropoutnet
from pipelines.records.audited import require_audit
from pipelines.retrieval.scorer import Scorer
from pipelines.storage import write_json
from pipelines.tracking.runs import log_training
from pipelines.training.facts import read_facts
from pipelines.training.fit import fit
from pipelines.training.input import damage_named, open_input
from schemas.fitted import EncoderState


def run(context: Context) -> Draft:
    """Build, fit, save, log."""
    config, records = context.config, context.parents["records"]
    options = config.training
    audited = require_audit(records.manifest, options.allow_unaudited)
    state = EncoderState.model_validate(records.read_json("encoder"))
    model = build_dropoutnet(state.inputs, config.model, config.seed)
    train = open_input(records, "train", options.batch_size, seed=config.seed, shuffle=True)
    validation = open_input(records, "validation", options.batch_size, seed=config.seed, shuffle=False)
    with damage_named(train, validation):
        history = fit(
            model,
            train,
            validation if validation.rows else None,
            options,
            config.seed,
            facts=read_facts(records, options),
        )
    tables = Scorer.save(context.staging, model, state)
    told = history.to_json()
    tables["history"] = write_json(context.staging, "history.json", told)
    logged = log_training(
        config,
        context.workspace.root,
        scorer=context.staging,
        records=records.manifest,
        records_path=records.path,
        history=told["epochs"],
    )
    best = told["epochs"][history.best_epoch - 1]
    facts = {
        "audit": audited,
        "best_epoch": history.best_epoch,
        "epochs": len(history.epochs),
        "weights": tables["towers"].shards[0].sha256,
        "best": {name: value for name, value in best.items() if name != "epoch"},
    }
    speeds = [round(epoch.examples_per_s) for epoch in history.epochs]
    return Draft(tables, facts, records.manifest.as_of, {**logged, "examples_per_s": speeds})


JOB = Job(
    name="train_dropoutnet",
    dataset="model",
    parents=("records",),
    sections=("name", "model", "training", "tracking"),
    run=run,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
