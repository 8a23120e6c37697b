"""Make the challenger champion where the gate allows; a refusal explains itself and ends with exit code 3."""

import sys

from jobs.launch import Context, Draft, Job, main
from pipelines.errors import PromotionError
from pipelines.storage import write_json
from pipelines.tracking.promotion import crown, judge, judge_audit, rival
from pipelines.tracking.runs import log_evaluation
from pipelines.tracking.store import connect


def run(context: Context) -> Draft:
    """Judge, then move the alias."""
    config, facts = context.config, context.parents["evaluation"].manifest.facts
    trained = context.parents["model"].manifest.notes
    client, name, version = connect(config, context.workspace.root), trained["name"], trained["version"]
    # A model equal to an earlier one is not evaluated again, but its own run needs the numbers too.
    log_evaluation(client, trained["run_id"], facts["metrics"])
    champion = rival(client, name, version, config.promotion)
    verdicts = [
        judge_audit(context.parents["model"].manifest.facts.get("audit", "unaudited")),
        *judge(config.promotion, facts["metrics"], facts["baselines"], champion),
    ]
    refused = [verdict.detail for verdict in verdicts if not verdict.passed]
    if refused:
        raise PromotionError(
            f"version {version} of {name} stays challenger: {'; '.join(refused)}; "
            "train a better model or change the promotion section"
        )
    crown(client, name, version)
    checks = [{"check": v.check, "passed": v.passed, "detail": v.detail} for v in verdicts]
    return Draft(
        tables={"verdicts": write_json(context.staging, "verdicts.json", checks)},
        facts={"promoted": True, "checks": checks},
        notes={"name": name, "version": version, "alias": "champion"},
    )


JOB = Job(
    name="promote_model",
    dataset="promotion",
    parents=("model", "evaluation"),
    sections=("name", "promotion", "tracking"),
    run=run,
    always=True,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
