"""The console: `thaw run` for the chain, `thaw JOB` for one job."""

import importlib
import sys
from collections.abc import Sequence

from jobs.launch import (
    ABLATE,
    CHAIN,
    CLASSIFIER_JOBS,
    FACTORS,
    IMAGE_JOBS,
    JOBS,
    REGISTRY_COMMANDS,
    SEARCH,
    job_named,
    nothing_to_do,
)
from jobs.launch import main as run_job

_ABOUT = {
    "generate_demo": "make the seeded demo data",
    "check_quality": "raw logs and content to clean tables; bad rows to a counted quarantine",
    "compute_preferences": "preference statistics for serving: the latest snapshot, or a range of days",
    "compute_factors": "reference factors by implicit ALS; `thaw run` runs it where `factors` is configured",
    "build_examples": "labels, splits and the point-in-time join",
    "audit_leakage": "prove that no future leaked into the examples",
    "write_records": "global shuffle into TFRecord shards",
    "train_dropoutnet": "train the towers, tracked by MLflow, registered as challenger",
    "evaluate_model": "rank the catalogue as it was at each test moment, beside baselines",
    "promote_model": "challenger to champion, where the gate allows",
    "recommend": "embeddings and top-K for every user, new ones included",
    "ablate": "train variants of the model on the same records and compare them on validation",
    "write_image_records": "images to shuffled TFRecord shards, for a classifier",
    "embed_content": "images through a Keras model to content vectors of items",
    "search": "choose a classifier, no configuration needed: --data FOLDER_OF_CLASSES --minutes 20",
    "train_content_classifier": "train a classifier that tells a category of items from their other content",
    "train_classifier": "train a classifier on image records, registered as challenger",
    "evaluate_classifier": "measure it on validation, or once on test, with a page of pictures",
    "promote_classifier": "challenger to champion, where the gate allows",
    "classify": "score a folder or table of images, on Beam",
    "rollback": "the champion before is champion again: [--to VERSION]",
    "lineage": "what a registered model was made from, from MLflow alone: MODEL@champion [--json]",
}


def usage() -> str:
    """The help page."""
    listed = (CHAIN, (FACTORS, ABLATE), IMAGE_JOBS, (SEARCH, *CLASSIFIER_JOBS), REGISTRY_COMMANDS)
    jobs, factors, beside, classifiers, registry = (
        "\n".join(f"  {name:<24} {_ABOUT[name]}" for name in names) for names in listed
    )
    return f"""Thaw: cold-start recommendation, from raw interaction logs to a registered model.

usage: thaw run [--config FILE] [--data DIR] [--out DIR] [--set KEY=VALUE] …
       thaw JOB [the same arguments]

  run                      all the jobs in order; a stage whose inputs have not changed is not run again
{jobs}

Beside the chain:
{factors}

Images, on Beam; `thaw run` runs them, and train_classifier between, where items read vectors of their images:
{beside}

Classifiers:
{classifiers}

The registry:
{registry}

`thaw JOB --help` explains the arguments. Spark jobs also run as `spark-submit jobs/JOB.py --config …`.
Exit codes: 0 done, 2 wrong configuration or input, 3 a gate refused, 4 no data of that day
(--as-of), 1 a fault of ours.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch to a job."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name == "run":
        from jobs.run import main as run_chain

        return run_chain(rest)
    if name == SEARCH:
        from jobs.search import main as run_search

        return run_search(rest)
    if name in REGISTRY_COMMANDS:
        code: int = importlib.import_module(f"jobs.{name}").main(rest)
        return code
    if name not in JOBS:
        known = ", ".join((*JOBS, *REGISTRY_COMMANDS))
        sys.stderr.write(f"thaw: unknown command {name!r}; it must be `run` or one of {known}\n")
        return 2
    return 0 if nothing_to_do(name, rest) else run_job(job_named(name), rest)


if __name__ == "__main__":
    sys.exit(main())
