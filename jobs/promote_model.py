"""Make the challenger champion where the gate allows; a refusal explains itself and ends with exit code 3."""

import sys

from jobs.decided import decided
from jobs.launch import Context, Draft, Job, made_of, main
from pipelines.config import EvaluationOptions
from pipelines.evaluation.evaluate import MODEL, measure_split
from pipelines.evaluation.inputs import read_measurable
from pipelines.evaluation.rankers import Towers
from pipelines.retrieval.scorer import Scorer
from pipelines.tracking.champions import rolled_back
from pipelines.tracking.promotion import Rival, judge, judge_audit, judge_features, judge_rollback
from pipelines.tracking.registered import Registered, aliased, require_columns, require_registered
from pipelines.tracking.runs import CHAMPION, log_evaluation
from pipelines.tracking.served_check import check_served
from pipelines.tracking.store import connect


def run(context: Context) -> Draft:
    """Judge, then move the alias."""
    config, model, examples = context.config, context.parents["model"], context.parents["examples"]
    facts = context.parents["evaluation"].manifest.facts
    # A second audit of the same examples serves as well as the one before training.
    audit = context.workspace.current("audit")
    name, version, run_id = require_registered(model)
    client = connect(config, context.workspace.root)
    # A model equal to an earlier one is not evaluated again, but its own run needs the numbers too.
    log_evaluation(client, run_id, facts["metrics"])
    champion = aliased(client, name, CHAMPION)
    rival = None if champion is None or champion.version == version else _meet(context, champion)
    challenger = Registered(name, version, str(model.manifest.facts.get("audit", "unaudited")))
    verdicts = [
        judge_rollback(name, version, rolled_back(client, name, version)),
        judge_audit(challenger.audit),
        judge_features(audit.manifest if audit and made_of(audit, examples) else None),
        check_served(challenger, model, context.parents["records"], examples, config.promotion.served_sample),
        *judge(config.promotion, facts["metrics"], facts["baselines"], rival),
    ]
    return decided(context, client, (name, version, run_id), verdicts, rival)


def _meet(context: Context, champion: Registered) -> Rival:
    """Measure the challenger and the champion on the same test examples, in one pass."""
    config, examples = context.config, context.parents["examples"]
    data = read_measurable(examples, context.parents["clean"], config.labels, ("test",))
    scorer = champion.load()
    require_columns(scorer, data.splits["test"].column_names, f"the champion, {champion.uri},", "examples")
    rankers = {MODEL: Towers(Scorer.load(context.parents["model"].path)), CHAMPION: Towers(scorer)}
    # As the challenger was evaluated, so that its values are the same.
    evaluation = context.parents["evaluation"].manifest
    options = EvaluationOptions.model_validate(evaluation.config["evaluation"])
    result = measure_split(data, "test", rankers, options, evaluation.seed)
    return Rival(champion.version, result.measured[CHAMPION], result.differences[CHAMPION])


JOB = Job(
    name="promote_model",
    dataset="promotion",
    parents=("model", "evaluation", "examples", "clean", "records"),
    sections=("name", "promotion", "labels", "tracking"),
    run=run,
    always=True,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
