"""One result from the runs of several seeds: mean and standard deviation of every metric."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from pipelines.evaluation.summary import headline_metrics, label, rankers_of


def over_seeds(summaries: Sequence[Mapping[str, Any]], split: str) -> dict[str, Any]:
    """Ranker -> slice -> metric -> {mean, sd, n}, of the runs that measured it; `sd` is None where one did."""
    runs = [rankers_of(summary, split) for summary in summaries]
    found: dict[str, Any] = {}
    for name, slices in next((run for run in runs if run), {}).items():
        for part, metrics in slices.items():
            for metric in metrics:
                entries = [run.get(name, {}).get(part, {}).get(metric) or {} for run in runs]
                values = [entry["value"] for entry in entries if entry.get("value") is not None]
                told = {
                    "mean": round(mean(values), 6) if values else None,
                    "sd": round(stdev(values), 6) if len(values) > 1 else None,
                    "n": len(values),
                }
                found.setdefault(name, {}).setdefault(part, {})[metric] = told
    return found


def seeds_table(found: Mapping[str, Any], seeds: Sequence[int], split: str) -> str:
    """The headline metrics of all and of new items, one line a ranker."""
    if not found:
        return f"{split}: not evaluated"
    metrics = headline_metrics(next(iter(found.values()))["all"])
    cells = [(part, metric) for part in ("all", "cold_item") for metric in metrics]
    title = f"{split}, {len(seeds)} seeds"
    lines = [f"{title:<18}" + "".join(f"{f'{metric} {label(part)}':>24}" for part, metric in cells)]
    for name, slices in found.items():
        lines.append(f"{label(name):<18}" + "".join(f"{_text(slices.get(p, {}).get(m)):>24}" for p, m in cells))
    return "\n".join(lines)


def _text(entry: Mapping[str, Any] | None) -> str:
    if not entry or entry["mean"] is None:
        return "–"
    return f"{entry['mean']:.4f}" + ("" if entry["sd"] is None else f" ± {entry['sd']:.4f}")
