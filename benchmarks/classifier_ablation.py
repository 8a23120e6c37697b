"""What is each training trick of classifiers worth on Fashion-MNIST? Three seeds each, on validation images.

The variants of classifier_ablation.yaml over conf/fashion_mnist.yaml, and DropPath on a network with residual branches
(classifier_ablation_residual.yaml). THAW_TEST_DATA holds the data; CLASSIFIER_ABLATION_OUT names a folder where
trainings are kept, so that a benchmark that was stopped goes on. CLASSIFIER_ABLATION_SEEDS=1 is the quick form. The
first column of seconds is a training's, start to end: what a trick costs.
"""

import os
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks._report import report
from benchmarks.ablation import thaw
from pipelines.storage import Dataset, Workspace

CONFIG = ["--config", "conf/fashion_mnist.yaml"]
PARTS = {"classifier_ablation": "plain", "classifier_ablation_residual": "mobilenet_v2"}
"""File of variants -> what its default is called in the table."""


def main() -> None:
    """Make the records, ablate, print."""
    data = Path(os.environ.get("THAW_TEST_DATA", "/nowhere")) / "fashion-mnist"
    if not data.is_dir():
        sys.exit("classifier_ablation needs THAW_TEST_DATA with fashion-mnist/")
    out = os.environ.get("CLASSIFIER_ABLATION_OUT", "out/classifier_ablation")
    seeds = os.environ.get("CLASSIFIER_ABLATION_SEEDS")
    workspace = Workspace.open(out)
    if workspace.current("image_records") is None:
        thaw("write_image_records", *CONFIG, "--data", str(data), "--out", out)
    rows: list[list[Any]] = []
    figures: dict[str, float] = {}
    for part, default in PARTS.items():
        variants = str(Path(__file__).with_name(f"{part}.yaml"))
        thaw("ablate", *CONFIG, "--config", variants, *(["--seeds", seeds] if seeds else []), "--out", out)
        ablation = workspace.current("ablation")
        assert ablation is not None
        rows += table(ablation, default, figures)
    header = ["variant", "accuracy ± sd", "minus its default", "log loss", "minus its default", "seconds"]
    report("classifier_ablation", header, rows, figures=figures)


def table(ablation: Dataset, default: str, figures: dict[str, float]) -> list[list[Any]]:
    """A row a variant; adds its accuracy to `figures`."""
    rows = []
    for row in ablation.read_json("results")["variants"]:
        name = default if row["name"] == "default" else f"{default}, {row['name'].removeprefix('classifier.')}"
        accuracy, loss = (row["metrics"]["all"][metric] for metric in ("accuracy", "log_loss"))
        cells = [name, f"{accuracy['value']:.4f} ± {accuracy['sd'] or 0:.4f}"]
        for metric in ("accuracy", "log_loss"):
            beside = row["differences"]["all"][metric]
            told = f"{beside['value']:+.4f} [{beside['low']:+.4f}, {beside['high']:+.4f}]"
            cells.append("" if row["name"] == "default" else told)
        cells.insert(3, f"{loss['value']:.4f}")
        seconds = ablation.manifest.notes["seconds"][row["name"]]
        rows.append([*cells, round(mean(seconds), 1)])
        figures[name] = accuracy["value"]
    return rows
