"""The report of a run: one HTML file that needs nothing else. What is missing is shown as missing.

Gathers what the manifests say into a view; the words and the layout are the template's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec

from pipelines.config import Config
from pipelines.evaluation.ablation_view import ablation_view
from pipelines.evaluation.charts import Node, auc_plot, flow_plot, interval_plot, shared_limits
from pipelines.evaluation.classifier_page import section
from pipelines.evaluation.images_view import images_view
from pipelines.evaluation.line_charts import reliability_plot
from pipelines.evaluation.page import configuration, curve_charts, fill, versions
from pipelines.evaluation.showcase import Showcase, showcases
from pipelines.evaluation.summary import current_manifests, headline_metrics, label, rankers_of
from pipelines.retrieval.seen import positive_rows
from pipelines.storage import Workspace
from schemas.examples import SPLITS
from schemas.manifest import Manifest

_PROBED = 12


def write_report(workspace: Workspace, config: Config, summary: Mapping[str, Any], path: str) -> None:
    """Write the report of a workspace's current datasets to `path`, on the workspace's file system."""
    manifests = current_manifests(workspace)
    model = workspace.current("model")
    examples = workspace.current("examples")
    page = render(
        config,
        summary,
        manifests,
        model.read_json("history") if model and "history" in model.manifest.tables else None,
        _showcases(workspace, config),
        examples.read_json("features") if examples and "features" in examples.manifest.tables else None,
        _data_docs(workspace),
        _ablation(workspace),
        section(workspace),
    )
    fs, _ = fsspec.core.url_to_fs(workspace.root)
    fs.pipe_file(path, page.encode())


def render(
    config: Config,
    summary: Mapping[str, Any],
    manifests: Mapping[str, Manifest],
    history: Mapping[str, Any] | None,
    shown: list[Showcase],
    features: Mapping[str, Any] | None = None,
    docs: Mapping[str, Mapping[str, str]] | None = None,
    ablation: Mapping[str, Any] | None = None,
    classifier: Mapping[str, Any] | None = None,
) -> str:
    """The page.

    `history` is {"best_epoch", "epochs": [{"epoch", metric: value}]}, `features` the file of that name of `examples`,
    `docs` the addresses of Great Expectations' pages: dataset -> what was checked -> address. `ablation` is the
    file `results` of the dataset of that name, `classifier` what `classifier_page.section` says.
    """
    return fill(
        "report.html.j2",
        name=config.name,
        summary=summary,
        manifests=manifests,
        cuts=_cuts(manifests),
        versions=versions(),
        configuration=configuration(config),
        flow=_flow(summary),
        curves=curve_charts(history),
        best_epoch=(history or {}).get("best_epoch"),
        results={split: rankers_of(summary, split) for split in ("test", "validation")},
        headline=headline_metrics(rankers_of(summary, "test").get("model", {}).get("all", ())),
        plots=_plots(rankers_of(summary, "test")),
        differences=_differences(summary),
        reliability=_reliability(summary, "test"),
        ablation=ablation_view(ablation) if ablation else None,
        classifier=classifier,
        images=images_view(config, summary, ablation),
        showcases=shown,
        features=features,
        docs=docs or {},
        kinds=_by_kind(summary["audit"]),
        probe=_probe(summary["audit"]),
        longest_s=max(summary["timings_s"].values(), default=0),
        accuracy=config.preferences.accuracy,
        filter_seen=config.evaluation.filter_seen,
        resamples=config.evaluation.bootstrap,
    )


def _plots(rankers: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Metric -> a plot per slice; all plots of a metric share their scale. Slices without users are left out."""
    if not rankers:
        return {}
    slices = rankers["model"]
    plots: dict[str, list[dict[str, Any]]] = {}
    for metric in slices["all"]:
        entries = {part: {name: rankers[name][part][metric] for name in rankers} for part in slices}
        filled = {part: row for part, row in entries.items() if row["model"].get("value") is not None}
        limits = shared_limits([entry for row in filled.values() for entry in row.values()])
        plots[metric] = [
            {"slice": part, "users": row["model"]["n"], "svg": interval_plot(f"{metric}, {label(part)}", row, limits)}
            for part, row in filled.items()
        ]
    return plots


def _differences(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The model minus each other ranker on test, by headline metric and slice: entries and a plot of them."""
    found = {name: splits["test"] for name, splits in (summary.get("differences") or {}).items() if "test" in splits}
    if met := summary.get("champion_met"):
        found[f"champion, version {met['version']}"] = met["differences"]
    names = [name for name in (*rankers_of(summary, "test"), *found) if name in found]
    rows = []
    for metric in headline_metrics(found[names[0]]["all"]) if names else ():
        for part in found[names[0]]:
            entries = {name: found[name][part][metric] for name in dict.fromkeys(names) if part in found[name]}
            if any(entry["value"] is not None for entry in entries.values()):
                ends = [entry[end] or 0.0 for entry in entries.values() for end in ("low", "value", "high")]
                limits = (min(0.0, *ends) * 1.05, max(0.0, *ends) * 1.05)
                plot = interval_plot(f"{metric}, {label(part)}: model minus other", entries, limits)
                rows.append({"metric": metric, "slice": part, "entries": entries, "svg": plot})
    return rows


def _reliability(summary: Mapping[str, Any], split: str) -> Any:
    """The reliability curves of a split in one chart; None where nothing predicts probabilities."""
    curves = (summary.get("reliability") or {}).get(split) or {}
    filled = {name: bins for name, bins in curves.items() if bins}
    return reliability_plot("Predicted and observed share of positives", filled) if filled else None


def _by_kind(audit: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """Kind -> the audit's checks of that kind, in their order; one kind without a name where they have none."""
    kinds: dict[str, list[Any]] = {}
    for check in (audit or {}).get("checks", ()):
        kinds.setdefault(check.get("kind") or "", []).append(check)
    return kinds


def _probe(audit: Mapping[str, Any] | None) -> Any:
    """The features that tell most of the label alone, in one chart; None where the audit did not look."""
    probed = (audit or {}).get("probe") or []
    strongest = sorted(probed, key=lambda found: (-abs(found["auc"] - 0.5), found["feature"]))[:_PROBED]
    return (
        auc_plot("AUC of single features", [(found["feature"], found["auc"]) for found in strongest])
        if probed
        else None
    )


def _ablation(workspace: Workspace) -> Any:
    """The results of an ablation of the current records; None where there are none, or of other records alone."""
    found, records = workspace.current("ablation"), workspace.current("records")
    if not found or not records or found.manifest.parents.get("records") != records.manifest.content_digest:
        return None
    return found.read_json("results")


def _data_docs(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Addresses relative to the report, which lies at the workspace's root; none where that is not a folder here."""
    if "://" in workspace.root:
        return {}
    found = {}
    for name in ("clean", "examples"):
        dataset = workspace.current(name)
        if dataset and "data_docs" in dataset.manifest.tables:
            pages = [shard.path for shard in dataset.manifest.tables["data_docs"].shards]
            folder = f"{name}/{Path(dataset.path).name}"
            found[name] = {Path(page).stem: quote(f"{folder}/{page}") for page in pages}
    return found


def _flow(summary: Mapping[str, Any]) -> Any:
    """Raw rows to records, and images to vectors, as far as the run came."""
    rows, splits = summary["rows"], (summary["examples"] or {}).get("splits") or {}
    if not rows:
        return None
    nodes = [
        Node(0, "rows read", rows["in"], None),
        Node(1, "clean events", rows["out"], 0),
        Node(1, "quarantined", rows["quarantined"], 0, aside=True),
        Node(1, "duplicates", rows["duplicates"], 0, aside=True),
    ]
    written = (summary["records"] or {}).get("rows") or {}
    for split in SPLITS:
        if split not in splits:
            continue
        found = splits[split]
        positives = f"{found['positives'] / found['rows']:.1%} positive" if found.get("rows") else ""
        nodes.append(Node(2, f"{split} examples", found.get("rows", 0), 1, note=positives))
        if split in written:
            nodes.append(Node(3, f"{split} records", written[split], len(nodes) - 1))
    if images := summary.get("images"):
        nodes.append(Node(0, "images read", images["rows"]["in"], None))
        nodes.append(Node(1, "content vectors", images["rows"]["out"], len(nodes) - 1))
    return flow_plot("From rows to records", nodes)


def _showcases(workspace: Workspace, config: Config) -> list[Showcase]:
    lists, clean = workspace.current("recommendations"), workspace.current("clean")
    if lists is None or clean is None:
        return []
    log = clean.read_table("interactions", ["user_id", "item_id", "event_time", "action", "weight"])
    return showcases(
        lists.read_table("recommendations"),
        clean.read_table("items"),
        log,
        positive_rows(log, config.labels),
        config.content_kinds("item"),
        seed=config.seed,
    )


def _cuts(manifests: Mapping[str, Manifest]) -> dict[str, int]:
    return dict(manifests["examples"].as_of) if "examples" in manifests else {}
