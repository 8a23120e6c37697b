"""Make the challenger among classifiers champion where the gate allows; a refusal ends with exit code 3.

Both are measured anew on the same validation images. A champion that was trained on other records may have seen some of
them in training: a note says so.
"""

import sys
from typing import Any

import numpy as np

from jobs.decided import decided
from jobs.evaluate_classifier import refresh_page
from jobs.launch import Context, Draft, Job, main
from pipelines.evaluation.classifier_measures import measure, paired_estimate
from pipelines.evaluation.classifier_split import Predicted, predict
from pipelines.models.saved_classifier import SavedClassifier
from pipelines.tracking.champions import rolled_back
from pipelines.tracking.classifiers import CLASSIFIER
from pipelines.tracking.promotion import Rival, judge_classifier, judge_rollback
from pipelines.tracking.registered import Registered, aliased, records_digest, require_registered
from pipelines.tracking.runs import CHAMPION, log_evaluation
from pipelines.tracking.store import connect

SPLIT = "validation"


def run(context: Context) -> Draft:
    """Measure, judge, then move the alias."""
    config, records = context.config, context.parents["image_records"]
    name, version, run_id = require_registered(context.parents["classifier"])
    client = connect(config, context.workspace.root)
    found = predict(SavedClassifier.load(context.parents["classifier"].path), records, SPLIT)
    metrics = _measured(context, found)
    # A classifier equal to an earlier one is not evaluated again, but its own run needs the numbers too.
    log_evaluation(client, run_id, {SPLIT: {"all": metrics}})
    champion = aliased(client, name, CHAMPION)
    rival = None
    if champion is not None and champion.version != version:
        if records_digest(client, champion) != records.manifest.content_digest:
            context.say(
                f"note: the champion, version {champion.version}, was trained on other records: where some of today's "
                "validation images were among them, it has an advantage"
            )
        rival = _meet(context, champion, found)
    commonest = float(np.bincount(found.labels).max() / len(found.labels))
    verdicts = [
        judge_rollback(name, version, rolled_back(client, name, version)),
        *judge_classifier(config.promotion, metrics["accuracy"], commonest, rival),
    ]
    return decided(context, client, (name, version, run_id), verdicts, rival)


def _meet(context: Context, champion: Registered, challenger: Predicted) -> Rival:
    """The champion on the same images."""
    saved = SavedClassifier.load(champion.files(CLASSIFIER))
    found = predict(saved, context.parents["image_records"], SPLIT, f"the champion, {champion.uri},")
    resamples = context.config.classifier_evaluation.bootstrap
    difference = paired_estimate(challenger.right, found.right, resamples, context.config.seed)
    return Rival(
        champion.version,
        metrics={"all": _measured(context, found)},
        differences={"all": {"accuracy": difference.to_dict()}},
    )


def _measured(context: Context, found: Predicted) -> dict[str, Any]:
    config, names = context.config, context.parents["image_records"].manifest.facts["classes"]
    resamples = config.classifier_evaluation.bootstrap
    return measure(found.probabilities, found.labels, names, resamples=resamples, seed=config.seed, split=SPLIT)[0]


JOB = Job(
    name="promote_classifier",
    dataset="classifier_promotion",
    parents=("classifier", "image_records"),
    sections=("name", "promotion", "classifier_evaluation", "tracking"),
    run=run,
    always=True,
    after=lambda config, workspace, outcome: refresh_page(config, workspace),
)

if __name__ == "__main__":
    sys.exit(main(JOB))
