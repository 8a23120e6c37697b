"""The page of a classifier: one HTML file that needs nothing else, made from what was published of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import fsspec

from pipelines.config import Config
from pipelines.evaluation.line_charts import reliability_plot
from pipelines.evaluation.page import configuration, curve_charts, fill, versions
from pipelines.storage import Dataset, Workspace
from schemas.manifest import Manifest

PAGE = "classifier.html"
_MATRIX = 30
"""Classes that a confusion matrix can show; of more, the pairs that are most often confused have to do."""


def evaluations_of(workspace: Workspace, classifier: Dataset) -> dict[str, Dataset]:
    """Split -> the latest evaluation of this classifier on it, test first."""
    found = {
        version.manifest.facts["split"]: version
        for version in workspace.published("classifier_evaluation")
        if version.manifest.parents["classifier"] == classifier.manifest.content_digest
    }
    return {split: found[split] for split in ("test", "validation") if split in found}


def section(workspace: Workspace) -> dict[str, Any] | None:
    """What the report of a run says of the workspace's classifier; None where it has none."""
    classifier = workspace.current("classifier")
    if classifier is None:
        return None
    return {
        "state": classifier.read_json("state"),
        "facts": classifier.manifest.facts,
        "metrics": _metrics(evaluations_of(workspace, classifier)),
        "page": PAGE,
    }


def write_page(workspace: Workspace, config: Config) -> str:
    """Write the page of the workspace's current classifier beside the datasets, and say where it is."""
    classifier = workspace.current("classifier")
    assert classifier is not None, "a page is written after an evaluation"
    path = f"{workspace.root}/{PAGE}"
    fs, inside = fsspec.core.url_to_fs(path)
    page = render(config, classifier, evaluations_of(workspace, classifier), _promotion(workspace, classifier))
    fs.pipe_file(inside, page.encode())
    return path


def render(
    config: Config, classifier: Dataset, evaluations: Mapping[str, Dataset], promotion: Manifest | None = None
) -> str:
    """The page; `promotion` is that of this classifier, where the gate has let it pass."""
    manifest = classifier.manifest
    history = classifier.read_json("history") if "history" in manifest.tables else None
    return fill(
        "classifier.html.j2",
        name=config.name,
        classifier=manifest,
        state=classifier.read_json("state"),
        promotion=promotion,
        metrics=_metrics(evaluations),
        views=[_view(split, version) for split, version in evaluations.items()],
        curves=curve_charts(history),
        best_epoch=(history or {}).get("best_epoch"),
        versions=versions(),
        configuration=configuration(config),
    )


def _promotion(workspace: Workspace, classifier: Dataset) -> Manifest | None:
    """What the gate said of this very version, where it let it pass."""
    found = workspace.current("classifier_promotion")
    keys = ("name", "version")
    same = found and [found.manifest.notes.get(k) for k in keys] == [classifier.manifest.notes.get(k) for k in keys]
    return found.manifest if found and same else None


def _metrics(evaluations: Mapping[str, Dataset]) -> dict[str, dict[str, Any]]:
    """Metric -> split -> {value, low, high, n}."""
    found: dict[str, dict[str, Any]] = {}
    for split, version in evaluations.items():
        for metric, entry in version.manifest.facts["metrics"][split]["all"].items():
            found.setdefault(metric, {})[split] = entry
    return found


def _view(split: str, version: Dataset) -> dict[str, Any]:
    """What the page shows of one evaluation."""
    measures, facts = version.read_json("measures"), version.manifest.facts
    matrix = _shaded(measures["confusion"]) if len(facts["classes"]) <= _MATRIX else None
    curves = {"model": measures["reliability"]}
    return {
        "split": split,
        "classes": facts["classes"],
        "matrix": matrix,
        "measures": measures,
        "pictures": version.read_json("pictures"),
        "reliability": reliability_plot(f"Confidence and accuracy, {split}", curves),
        "touched_before": version.manifest.notes.get("touched_before") or [],
    }


def _shaded(counts: Sequence[Sequence[int]]) -> list[list[dict[str, Any]]]:
    """Each cell's rows and its share of its label's."""
    return [[{"rows": n, "share": round(n / max(sum(row), 1), 3)} for n in row] for row in counts]
