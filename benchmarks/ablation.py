"""What is each choice of the demo's towers worth? The variants of ablation.yaml, five seeds each, on validation.

ABLATION_OUT names a folder where `thaw run --config conf/demo.yaml` has come as far as write_records; without it, or
where it is empty, that is run first. Trainings are kept there, so that a benchmark that was stopped goes on.
ABLATION_SEEDS=1 is the quick form.
"""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks._report import report
from pipelines.storage import Workspace

DEMO = ["--config", "conf/demo.yaml"]
VARIANTS = Path(__file__).with_suffix(".yaml")
CELLS = tuple((part, metric) for metric in ("recall@100", "ndcg@10") for part in ("all", "warm", "cold_item"))


def main() -> None:
    """Make the records, ablate, print."""
    out = os.environ.get("ABLATION_OUT", "out/ablation")
    if Workspace.open(out).current("records") is None:
        thaw("run", *DEMO, "--until", "write_records", "--out", out)
    seeds = os.environ.get("ABLATION_SEEDS")
    thaw("ablate", *DEMO, "--config", str(VARIANTS), *(["--seeds", seeds] if seeds else []), "--out", out)
    ablation = Workspace.open(out).current("ablation")
    assert ablation is not None
    results = ablation.read_json("results")
    rows, figures = [], {}
    for row in results["variants"]:
        if row["is_default"] and row["name"] != "default":
            continue
        cells = []
        for part, metric in CELLS:
            entry, beside = row["metrics"][part][metric], row["differences"][part][metric]
            cells.append(f"{entry['value']:.4f} ± {entry['sd'] or 0:.4f}")
            cells.append(
                "" if row["is_default"] else f"{beside['value']:+.4f} [{beside['low']:+.4f}, {beside['high']:+.4f}]"
            )
            figures[f"{row['name']} {metric} {part}"] = entry["value"]
        rows.append([row["name"], *cells])
    header = ["variant", *(text for part, metric in CELLS for text in (f"{metric} {part} ± sd", "minus default"))]
    report("ablation", header, rows, figures=figures)


def thaw(*arguments: str) -> None:
    """One command, in a process of its own: Spark and TensorFlow never share one."""
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    if code := subprocess.run(command, check=False).returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {code}")
