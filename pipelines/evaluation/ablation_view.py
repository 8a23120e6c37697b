"""What the report shows of an ablation: curves over an option's values, and variants beside the default."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.evaluation.ablation import DEFAULT
from pipelines.evaluation.charts import interval_plot, shared_limits
from pipelines.evaluation.line_charts import trend_plot
from pipelines.evaluation.summary import headline_metrics, label

SLICES = ("all", "warm", "cold_item")
_FEWEST_POINTS = 3
_LABEL_WIDTH = 230


def ablation_view(results: Mapping[str, Any]) -> dict[str, Any]:
    """`results` of the dataset `ablation`, with the charts that the template places.

    Beside its own keys: `shown` (rows of the table), `slices`, `metrics`, `curves` (option -> charts), `differences`.
    """
    rows = results["variants"]
    default = next(row for row in rows if row["name"] == DEFAULT)
    slices = [part for part in SLICES if part in default["metrics"]]
    metrics = headline_metrics(default["metrics"]["all"])
    # A value that the configuration has anyway is the default, and a point of its option's curve alone.
    shown = [row for row in rows if row is default or not row["is_default"]]
    return {
        **results,
        "shown": shown,
        "slices": slices,
        "metrics": metrics,
        "curves": {
            option: _curves(points, slices, metrics)
            for option, points in _numeric_options(rows).items()
            if len(points) >= _FEWEST_POINTS
        },
        "differences": _differences([row for row in shown if row is not default], slices, metrics),
    }


def _numeric_options(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[float, Mapping[str, Any]]]:
    """Option -> value -> its variant, in order of the values, of options that were varied alone over numbers."""
    found: dict[str, dict[float, Mapping[str, Any]]] = {}
    for row in rows:
        changes = list(row["changes"].items())
        if len(changes) == 1 and isinstance(changes[0][1], int | float) and not isinstance(changes[0][1], bool):
            found.setdefault(changes[0][0], {})[changes[0][1]] = row
    return {option: dict(sorted(points.items())) for option, points in found.items()}


def _curves(
    points: Mapping[float, Mapping[str, Any]], slices: Sequence[str], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """A chart per metric and slice; all slices of a metric share their scale."""
    charts = []
    for metric in metrics:
        lines = {part: [(value, row["metrics"][part][metric]) for value, row in points.items()] for part in slices}
        filled = {part: line for part, line in lines.items() if any(e["value"] is not None for _, e in line)}
        limits = shared_limits([entry for line in filled.values() for _, entry in line])
        for part, line in filled.items():
            title = f"{metric}, {label(part)}"
            charts.append({"title": title, "svg": trend_plot(title, line, limits)})
    return charts


def _differences(
    rows: Sequence[Mapping[str, Any]], slices: Sequence[str], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """A chart per metric and slice: every variant minus the default."""
    charts = []
    names = _short(rows)
    for metric in metrics:
        for part in slices:
            entries = {name: row["differences"][part][metric] for name, row in zip(names, rows, strict=True)}
            there = [entry for entry in entries.values() if entry["value"] is not None]
            if there:
                ends = [entry[end] or 0.0 for entry in there for end in ("low", "value", "high")]
                limits = (min(0.0, *ends) * 1.05, max(0.0, *ends) * 1.05)
                title = f"{metric}, {label(part)}"
                svg = interval_plot(f"{title}: variant minus default", entries, limits, label_width=_LABEL_WIDTH)
                charts.append({"title": title, "svg": svg})
    return charts


def _short(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name `a.b.c=1` as `c=1`, where that says which."""
    ends = [row["name"].removeprefix(next(iter(row["changes"])).rpartition(".")[0] + ".") for row in rows]
    return [end if ends.count(end) == 1 else row["name"] for end, row in zip(ends, rows, strict=True)]
