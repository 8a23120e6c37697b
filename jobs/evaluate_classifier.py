"""Measure a classifier: on the validation split, to choose by, or once on the test split (`--split test`).

Writes the page `classifier.html` beside the datasets, and logs page and measures in the MLflow run of the training.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping

from jobs.launch import Context, Draft, Job, Outcome, add_shorthand, main, say
from pipelines.config import Config
from pipelines.evaluation.classifier_measures import measure
from pipelines.evaluation.classifier_page import evaluations_of, write_page
from pipelines.evaluation.classifier_pictures import kept_pictures
from pipelines.evaluation.classifier_split import pixel_digests, predict, prediction_table
from pipelines.evaluation.classifier_touch import Touch, check_untouched
from pipelines.models.saved_classifier import SavedClassifier
from pipelines.storage import Workspace, write_arrow, write_json
from pipelines.tracking.runs import log_evaluation, log_files
from pipelines.tracking.store import connect
from schemas.classes import PREDICTIONS


def run(context: Context) -> Draft:
    """Predict, measure, keep the pictures."""
    config, options = context.config, context.config.classifier_evaluation
    classifier, records, split = context.parents["classifier"], context.parents["image_records"], options.split
    digests = pixel_digests(records, split)
    touches = _touches(context, digests) if split == "test" else []
    saved = SavedClassifier.load(classifier.path)
    found = predict(saved, records, split)
    names = records.manifest.facts["classes"]
    metrics, shown = measure(
        found.probabilities, found.labels, names, resamples=options.bootstrap, seed=config.seed, split=split
    )
    table, pictures = prediction_table(found, records, digests), kept_pictures(saved, records, split, found, options)
    return Draft(
        tables={
            "predictions": write_arrow(context.staging, "predictions", table, PREDICTIONS),
            "measures": write_json(context.staging, "measures.json", shown),
            "pictures": write_json(context.staging, "pictures.json", pictures),
        },
        facts={"split": split, "metrics": {split: {"all": metrics}}, "classes": list(names)},
        notes={"touched_before": [dataclasses.asdict(touch) for touch in touches]},
    )


def _touches(context: Context, digests: Mapping[str, str]) -> list[Touch]:
    """What touched these test images before."""
    return check_untouched(
        context.workspace.published("classifier_evaluation"),
        context.parents["classifier"].manifest.content_digest,
        digests,
        again=context.config.classifier_evaluation.again,
    )


def after(config: Config, workspace: Workspace, outcome: Outcome) -> None:
    """Say what was found, and show it."""
    facts = outcome.dataset.manifest.facts
    accuracy = facts["metrics"][facts["split"]]["all"]["accuracy"]
    interval = "" if accuracy["low"] is None else f" ({accuracy['low']:.4f} to {accuracy['high']:.4f})"
    say(f"{facts['split']} accuracy {accuracy['value']:.4f}{interval}, {accuracy['n']:,} images")
    refresh_page(config, workspace)


def refresh_page(config: Config, workspace: Workspace) -> None:
    """Write the page of the current classifier, and log it, with what was measured of it, in its run."""
    path = write_page(workspace, config)
    say(f"page: {path}")
    classifier = workspace.current("classifier")
    if classifier is not None and (run_id := classifier.manifest.notes.get("run_id")):
        client = connect(config, workspace.root)
        for version in evaluations_of(workspace, classifier).values():
            log_evaluation(client, run_id, version.manifest.facts["metrics"])
        if "://" not in path:
            log_files(config, workspace.root, run_id, [path])


def arguments(parser: argparse.ArgumentParser) -> None:
    """`--split` and `--again`."""
    add_shorthand(parser, "--split", "classifier_evaluation.split", "SPLIT", "validation (default), or test")
    parser.add_argument(
        "--again",
        dest="set",
        action="append_const",
        const="classifier_evaluation.again=true",
        default=argparse.SUPPRESS,
        help="measure on test images that another classifier was measured on (classifier_evaluation.again)",
    )


JOB = Job(
    name="evaluate_classifier",
    dataset="classifier_evaluation",
    parents=("classifier", "image_records"),
    sections=("classifier_evaluation",),
    run=run,
    # Else two that begin at once would each find the test images untouched.
    alone=lambda config: config.classifier_evaluation.split == "test",
    after=after,
    arguments=arguments,
)

if __name__ == "__main__":
    sys.exit(main(JOB))
