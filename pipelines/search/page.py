"""The page of a search: one HTML file with the families, the trials and the choice of neighbours."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.evaluation.charts import interval_plot, shared_limits
from pipelines.evaluation.line_charts import trend_plot
from pipelines.evaluation.page import fill
from pipelines.search.summary import COLUMNS, as_yaml, by_family, cells, deviation

_LABEL_WIDTH = 110


def page(name: str, results: Mapping[str, Any], speeds: Mapping[str, Mapping[str, Any]]) -> str:
    """`results` of the dataset `search` and the speeds in its notes, as a page that needs nothing else."""
    rows = by_family(results, speeds)
    best = next(trial for trial in results["trials"] if trial["number"] == results["best"])
    return fill(
        "search.html.j2",
        name=name,
        results=results,
        best=best,
        columns=COLUMNS,
        families=[cells(row) for row in rows],
        family_plot=_families(rows),
        neighbour_plots=_neighbours(results["neighbours"]),
        trials=[{**trial, **speeds[str(trial["number"])]} for trial in results["trials"]],
        options=[as_yaml(final) for final in results["finals"]],
    )


def one_sigma(mean: float, sd: float | None) -> dict[str, Any]:
    """A value with the bar of one standard deviation, as charts take it."""
    return {"value": mean, "low": None if sd is None else mean - sd, "high": None if sd is None else mean + sd}


def _families(rows: Sequence[Mapping[str, Any]]) -> Any:
    entries = {row["family"]: one_sigma(row["accuracy"], deviation(row["accuracies"])) for row in rows}
    limits = shared_limits(list(entries.values()))
    return interval_plot("Accuracy of each family's best trial", entries, limits, label_width=_LABEL_WIDTH)


def _neighbours(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A chart a distance, accuracy over k; both on one scale."""
    limits = shared_limits([one_sigma(row["mean"], row["sd"]) for row in curves])
    charts = []
    for distance in dict.fromkeys(row["distance"] for row in curves):
        points = [(row["k"], one_sigma(row["mean"], row["sd"])) for row in curves if row["distance"] == distance]
        title = f"{distance.upper()} distance, accuracy over k"
        charts.append({"title": title, "svg": trend_plot(title, points, limits)})
    return charts
