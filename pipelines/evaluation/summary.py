"""A run in one dict, and in a short table for the terminal. All of it is read from manifests."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.config import Config
from pipelines.evaluation.images import images_of
from pipelines.storage import Workspace
from schemas.manifest import Manifest

DATASETS = (
    "demo_data", "image_records", "classifier", "content_vectors", "clean", "preferences", "factors",
    "examples", "audit", "records", "model", "evaluation", "promotion", "recommendations",
)  # fmt: skip
"""Every dataset a run may have published, in the order data meets them."""

ORDER = (
    "best_achievable", "model", "against", "content_only",
    "als", "item_knn", "ridge", "content_knn", "popularity", "random",
)  # fmt: skip
"""How rankers are listed: what bounds the model, the model, what it must beat."""


def summarise(workspace: Workspace, config: Config, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The current datasets of a workspace in one dict; `seconds` is the time by stage."""
    return summary_of(current_manifests(workspace), config.name, seconds)


def current_manifests(workspace: Workspace) -> dict[str, Manifest]:
    """Dataset -> manifest of its current version, for those that exist."""
    found = {name: workspace.current(name) for name in DATASETS}
    return {name: dataset.manifest for name, dataset in found.items() if dataset}


def summary_of(manifests: Mapping[str, Manifest], name: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The dict of `summary.json`. What was not published is None, so that every key is always there."""

    def fact(dataset: str, key: str) -> Any:
        return manifests[dataset].facts.get(key) if dataset in manifests else None

    return {
        "name": name,
        "rows": fact("clean", "rows"),
        "images": images_of(manifests),
        "audit": fact("audit", "audit") if _of_these_examples(manifests) else None,
        "examples": manifests["examples"].facts if "examples" in manifests else None,
        "records": _records(manifests["records"]) if "records" in manifests else None,
        "metrics": fact("evaluation", "metrics"),
        "baselines": fact("evaluation", "baselines"),
        "differences": fact("evaluation", "differences"),
        "reliability": fact("evaluation", "reliability"),
        "evaluated": fact("evaluation", "evaluated"),
        "against": manifests["evaluation"].notes.get("against") or None if "evaluation" in manifests else None,
        "champion_met": fact("promotion", "champion") if _of_this_model(manifests) else None,
        "model": _model(manifests),
        "timings_s": dict(seconds),
    }


def terminal_table(summary: Mapping[str, Any]) -> str:
    """What a person wants to know first, in a few lines."""
    lines = [_headline(summary)]
    if rows := summary["rows"]:
        lines.append(
            f"rows     {rows['in']:,} in = {rows['out']:,} out + {rows['quarantined']:,} quarantined "
            f"+ {rows['duplicates']:,} duplicates"
        )
    rankers = rankers_of(summary, "test")
    if not rankers:
        return "\n".join([*lines, "test     not evaluated"])
    shown = headline_metrics(rankers["model"]["all"])
    if shown:
        lines += ["", *_table("test", rankers, [("all", m) for m in shown] + [("cold_item", m) for m in shown])]
    compared = ((summary.get("differences") or {}).get("against") or {}).get("test")
    if lines_of := difference_lines(compared):
        lines += ["", f"against is {summary['against']}", *lines_of]
    for title, prefix in (("by past positives", "past_"), ("by the user's past", "user_past_")):
        bands = [part for part in rankers["model"] if part.startswith(prefix)]
        if bands and shown:
            lines += ["", *_table(title, rankers, [(part, shown[0]) for part in bands])]
    return "\n".join(lines)


def rankers_of(summary: Mapping[str, Any], split: str) -> dict[str, Any]:
    """Ranker -> slice -> metric -> {value, low, high, n}, the model among its baselines, in `ORDER`."""
    measured = {name: splits[split] for name, splits in (summary["baselines"] or {}).items() if split in splits}
    if split in (summary["metrics"] or {}):
        measured["model"] = summary["metrics"][split]
    return {name: measured[name] for name in sorted(measured, key=_order)} if "model" in measured else {}


def headline_metrics(metrics: Iterable[str]) -> list[str]:
    """The few that stand for all: recall of the longest list, NDCG, AUC; of classifiers accuracy and loss.

    >>> headline_metrics(["recall@10", "recall@100", "ndcg@10", "auc"])
    ['recall@100', 'ndcg@10', 'auc']
    """
    measured = list(metrics)
    recalls = sorted((m for m in measured if m.startswith("recall@")), key=lambda m: int(m.partition("@")[2]))
    return [m for m in (*recalls[-1:], "ndcg@10", "auc", "accuracy", "log_loss") if m in measured]


def difference_lines(differences: Mapping[str, Any] | None) -> list[str]:
    """The paired differences of the headline metrics to a registered model, for all and for new items."""
    lines = []
    for part in ("all", "cold_item"):
        row = (differences or {}).get(part, {})
        told = [
            f"{metric} {signed(row[metric])}" for metric in headline_metrics(row) if row[metric]["value"] is not None
        ]
        if told:
            lines.append(f"model minus against, test, {label(part)}: " + ", ".join(told))
    return lines


def signed(entry: Mapping[str, Any]) -> str:
    """A difference with its interval, where there is one."""
    interval = "" if entry["low"] is None else f" [{entry['low']:+.4f}, {entry['high']:+.4f}]"
    return f"{entry['value']:+.4f}{interval}"


def label(name: str) -> str:
    """A name of code as people write it.

    >>> label("cold_item")
    'cold item'
    """
    return name.replace("_", " ")


def figure(entry: Mapping[str, Any] | None) -> str:
    """A value as people read it, a dash where nothing was measured."""
    value = (entry or {}).get("value")
    return "–" if value is None else f"{value:.4f}"


def _records(manifest: Manifest) -> dict[str, Any]:
    splits = {name: entry for name, entry in manifest.tables.items() if entry.format == "tfrecord"}
    return {
        "digest": manifest.content_digest,
        "shards": sum(len(entry.shards) for entry in splits.values()),
        "rows": {name: entry.rows for name, entry in splits.items()},
        "shuffle": manifest.facts.get("splits"),
    }


def _model(manifests: Mapping[str, Manifest]) -> dict[str, Any] | None:
    if "model" not in manifests:
        return None
    notes = manifests["model"].notes
    crowned = manifests["promotion"].notes if "promotion" in manifests else {}
    champion = crowned.get("version") is not None and crowned.get("version") == notes.get("version")
    return {
        "name": notes.get("name"),
        "version": notes.get("version"),
        "audit": manifests["model"].facts.get("audit"),
        "alias": crowned.get("alias") if champion else "challenger",
    }


def _of_this_model(manifests: Mapping[str, Manifest]) -> bool:
    """Whether the last promotion was of the current model."""
    both = "promotion" in manifests and "model" in manifests
    return both and manifests["promotion"].notes.get("version") == manifests["model"].notes.get("version")


def _of_these_examples(manifests: Mapping[str, Manifest]) -> bool:
    """Whether the current audit is of the current examples: an older one says nothing of them."""
    if "audit" not in manifests or "examples" not in manifests:
        return True
    return manifests["audit"].parents.get("examples") in (None, manifests["examples"].content_digest)


def _headline(summary: Mapping[str, Any]) -> str:
    model, records, audit = summary["model"], summary["records"], summary["audit"]
    parts = [
        f"model {model['name']} version {model['version']} ({_standing(model)})" if model else "no model yet",
        f"records {records['digest'][:12]} in {records['shards']} shards" if records else "no records yet",
        f"audit {'passed' if audit['passed'] else 'FAILED'}, {len(audit['checks'])} checks" if audit else "not audited",
    ]
    return f"{summary['name']:<8} " + " · ".join(parts)


def _standing(model: Mapping[str, Any]) -> str:
    return f"{model['alias']}, unaudited" if model.get("audit") == "unaudited" else str(model["alias"])


def _table(title: str, rankers: Mapping[str, Any], cells: list[tuple[str, str]]) -> list[str]:
    width = [max(len(label(part)), len(metric), 8) + 2 for part, metric in cells]
    head = [f"{title:<18}" + "".join(f"{label(part):>{w}}" for (part, _), w in zip(cells, width, strict=True))]
    head.append(" " * 18 + "".join(f"{metric:>{w}}" for (_, metric), w in zip(cells, width, strict=True)))
    for name, slices in rankers.items():
        values = [figure(slices.get(part, {}).get(metric)) for part, metric in cells]
        head.append(f"{label(name):<18}" + "".join(f"{v:>{w}}" for v, w in zip(values, width, strict=True)))
    return head


def _order(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
