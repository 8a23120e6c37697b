"""Charts of one quantity over another: the reliability curve, and what an option's values change."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from pipelines.evaluation.charts import line_mark, round_ticks, svg, text_mark
from pipelines.evaluation.summary import label

_LEFT, _TOP, _WIDTH, _HEIGHT = 44, 12, 236, 140


def reliability_plot(title: str, curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Markup:
    """Observed share of positives over predicted probability; the diagonal is what is right on average."""
    most = max(max(b["predicted"], b["observed"]) for bins in curves.values() for b in bins) or 1.0

    def point(x: float, y: float) -> tuple[float, float]:
        return (round(_LEFT + x / most * _WIDTH, 1), round(_TOP + (1 - y / most) * _HEIGHT, 1))

    marks = [line_mark(*point(0, 0), *point(most, most), "best")]
    for tick in round_ticks(0.0, most):
        x, y = point(tick, tick)
        marks += [
            line_mark(_LEFT, y, _LEFT + _WIDTH, y, "grid"),
            text_mark(_LEFT - 6, y + 4, f"{tick:.3g}", "tick", "end"),
            text_mark(x, _TOP + _HEIGHT + 16, f"{tick:.3g}", "tick", "middle"),
        ]
    for name, bins in curves.items():
        marks += _path([point(b["predicted"], b["observed"]) for b in bins], name)
    words = "; ".join(
        f"{label(name)}: " + ", ".join(f"{b['predicted']:.3f} predicted, {b['observed']:.3f} observed" for b in bins)
        for name, bins in curves.items()
    )
    marks.append(text_mark(_LEFT + _WIDTH, _TOP + _HEIGHT + 32, "predicted", "tick", "end"))
    marks.append(text_mark(_LEFT + 4, _TOP + 4, "observed", "tick", "start"))
    return svg(title, words, _LEFT + _WIDTH + 16, _TOP + _HEIGHT + 38, marks)


def trend_plot(title: str, points: Sequence[tuple[float, Mapping[str, Any]]], limits: tuple[float, float]) -> Markup:
    """A metric with its intervals over the values of a number; values where it was not measured are left out."""
    low, high = limits
    least, most = min(x for x, _ in points), max(x for x, _ in points)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - least) / ((most - least) or 1.0)
        return (round(_LEFT + across * _WIDTH, 1), round(_TOP + (1 - (y - low) / ((high - low) or 1.0)) * _HEIGHT, 1))

    marks, there = [], [(x, entry) for x, entry in points if entry.get("value") is not None]
    for tick in round_ticks(low, high):
        y = place(least, tick)[1]
        marks += [
            line_mark(_LEFT, y, _LEFT + _WIDTH, y, "grid"),
            text_mark(_LEFT - 6, y + 4, f"{tick:.3g}", "tick", "end"),
        ]
    for x, _ in points:
        marks.append(text_mark(place(x, low)[0], _TOP + _HEIGHT + 16, f"{x:g}", "tick", "middle"))
    for x, entry in there:
        if entry.get("low") is not None:
            marks.append(line_mark(*place(x, entry["low"]), *place(x, entry["high"]), "bar r-model"))
    marks += _path([place(x, entry["value"]) for x, entry in there], "model")
    words = "; ".join(
        f"{x:g}: {e['value']:.3f}" + ("" if e.get("low") is None else f" ({e['low']:.3f} to {e['high']:.3f})")
        for x, e in there
    )
    return svg(title, words or "nothing measured", _LEFT + _WIDTH + 16, _TOP + _HEIGHT + 22, marks)


def _path(points: Sequence[tuple[float, float]], name: str) -> list[str]:
    """A line through points, each with a dot."""
    kind = escape(name)
    line = f'<polyline class="curve c-{kind}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>'
    return [line, *(f'<circle class="end c-{kind}" cx="{x}" cy="{y}" r="2.6"/>' for x, y in points)]
