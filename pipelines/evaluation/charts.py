"""Small charts as inline SVG: intervals, curves, and the flow of rows. Colours come from the page's style sheet.

Charts of one quantity over another are left to `line_charts`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markupsafe import Markup

from pipelines.evaluation.summary import label

_LABEL_WIDTH, _PLOT_WIDTH, _ROW = 104, 176, 20


def interval_plot(
    title: str,
    entries: Mapping[str, Mapping[str, Any]],
    limits: tuple[float, float],
    *,
    label_width: int = _LABEL_WIDTH,
) -> Markup:
    """One dot with its interval per ranker, on a scale from `limits`. Rankers without a value are left out."""
    rows = {name: entry for name, entry in entries.items() if entry.get("value") is not None}
    low, high = limits
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return round(label_width + (min(max(value, low), high) - low) / span * _PLOT_WIDTH, 1)

    height = _ROW * len(rows) + 26
    words = "; ".join(f"{label(n)} {e['value']:.3f}{_interval(e)}" for n, e in rows.items())
    marks = [line_mark(x(0), 4, x(0), height - 20, "best")] if low < 0 < high else []
    for value in round_ticks(low, high):
        marks.append(line_mark(x(value), 4, x(value), height - 20, "grid"))
        marks.append(text_mark(x(value), height - 5, f"{value:.3g}", "tick", "middle"))
    for index, (name, entry) in enumerate(rows.items()):
        y = _ROW * index + 15
        marks.append(text_mark(label_width - 8, y + 4, label(name), f"name r-{name}", "end"))
        if entry["low"] is not None:
            marks.append(line_mark(x(entry["low"]), y, x(entry["high"]), y, f"bar r-{name}"))
        marks.append(f'<circle class="dot r-{escape(name)}" cx="{x(entry["value"])}" cy="{y}" r="4"/>')
    return svg(title, words or "nothing measured", label_width + _PLOT_WIDTH + 16, height, marks)


def shared_limits(entries: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Limits that hold every interval, from 0 where that is near."""
    ends = [entry.get(end) for entry in entries for end in ("low", "value", "high")]
    values = [end for end in ends if end is not None]
    if not values:
        return (0.0, 1.0)
    low, high = min(values), max(values)
    return (0.0 if low < 0.5 * high else low - 0.05 * (high - low), high + 0.05 * (high - low) or 1.0)


def _interval(entry: Mapping[str, Any]) -> str:
    return "" if entry["low"] is None else f" ({entry['low']:.3f} to {entry['high']:.3f})"


def round_ticks(low: float, high: float) -> list[float]:
    """Three to five round values from `low` to `high`.

    >>> round_ticks(0.0, 0.42)
    [0.0, 0.1, 0.2, 0.3, 0.4]
    """
    raw = (high - low or 1.0) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.95)
    return [round(n * step, 10) for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def curve_plot(title: str, series: Mapping[str, Sequence[float]], best: int | None) -> Markup:
    """Lines over epochs 1, 2, …; the epoch whose weights were kept is marked."""
    values = [value for line in series.values() for value in line]
    low, high, longest = min(values), max(values), max(len(line) for line in series.values())
    span = (high - low) or 1.0

    def point(index: int, value: float) -> tuple[float, float]:
        return (round(44 + index / max(longest - 1, 1) * 236, 1), round(118 - (value - low) / span * 100, 1))

    marks = []
    for value in (low, high):
        y = point(0, value)[1]
        marks += [line_mark(44, y, 280, y, "grid"), text_mark(38, y + 4, f"{value:.3g}", "tick", "end")]
    marks += [text_mark(44, 138, "epoch 1", "tick", "start"), text_mark(280, 138, str(longest), "tick", "end")]
    if best is not None:
        x = point(best - 1, low)[0]
        marks.append(line_mark(x, 12, x, 122, "best"))
    for name, line in series.items():
        points = [point(index, value) for index, value in enumerate(line)]
        marks.append(f'<polyline class="curve c-{escape(name)}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>')
        marks += [f'<circle class="end c-{escape(name)}" cx="{x}" cy="{y}" r="2.2"/>' for x, y in points]
    words = "; ".join(f"{label(n)} from {line[0]:.4g} to {line[-1]:.4g}" for n, line in series.items())
    return svg(title, words, 296, 146, marks)


def auc_plot(title: str, entries: Sequence[tuple[str, float]]) -> Markup:
    """A bar per name from 0.5, where a value tells nothing of the label, to its AUC; names stand over their bars."""
    left, right, row = 12, 288, 34

    def x(auc: float) -> float:
        return round(left + (min(max(auc, 0.0), 1.0)) * (right - left), 1)

    height = row * len(entries) + 22
    marks = []
    for value in (0.0, 0.5, 1.0):
        marks += [
            line_mark(x(value), 4, x(value), height - 18, "grid"),
            text_mark(x(value), height - 4, f"{value:g}", "tick", "middle"),
        ]
    for index, (name, auc) in enumerate(entries):
        y = row * index + 16
        marks.append(text_mark(left, y, name, "name", "start"))
        marks.append(text_mark(right, y, f"{auc:.3f}", "tick", "end"))
        marks.append(line_mark(x(0.5), y + 9, x(auc), y + 9, "auc"))
    words = "; ".join(f"{name} {auc:.3f}" for name, auc in entries)
    return svg(title, words or "nothing measured", 300, height, marks)


@dataclass(frozen=True)
class Node:
    """A box of the flow: its column, what it holds, how many rows, and the box that they come from."""

    column: int
    name: str
    rows: int
    source: int | None
    """Index of the box before it."""
    aside: bool = False
    """Set aside: no rows flow on from here."""
    note: str = ""


def flow_plot(title: str, nodes: Sequence[Node]) -> Markup:
    """Boxes in columns, joined by bands as thick as their share of the first box's rows."""
    width, gap_x, box_height, gap_y = 196, 76, 48, 14
    places: list[tuple[float, float]] = []
    filled: dict[int, int] = {}
    for node in nodes:
        position = filled.get(node.column, 0)
        filled[node.column] = position + 1
        places.append((node.column * (width + gap_x) + 2, position * (box_height + gap_y) + 4))
    most = max((node.rows for node in nodes), default=1) or 1
    bands, boxes = [], []
    for node, (x, y) in zip(nodes, places, strict=True):
        if node.source is not None:
            from_x, from_y = places[node.source][0] + width, places[node.source][1] + box_height / 2
            to_y, middle = y + box_height / 2, (from_x + x) / 2
            thick = round(1.5 + 20 * node.rows / most, 1)
            kind = "band aside" if node.aside else "band"
            path = f"M{from_x},{from_y} C{middle},{from_y} {middle},{to_y} {x},{to_y}"
            bands.append(f'<path class="{kind}" d="{path}" stroke-width="{thick}"/>')
        kind = "box aside" if node.aside else "box"
        boxes.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{box_height}" rx="6"/>')
        boxes.append(text_mark(x + 12, y + 20, node.name, "box-name", "start"))
        boxes.append(text_mark(x + 12, y + 38, f"{node.rows:,}", "box-rows", "start"))
        boxes.append(text_mark(x + width - 10, y + 38, node.note, "tick", "end"))
    words = "; ".join(f"{node.name}: {node.rows:,} {node.note}".strip() for node in nodes)
    columns = max((node.column for node in nodes), default=0) + 1
    height = max(filled.values(), default=1) * (box_height + gap_y) + 4
    return svg(title, words, columns * (width + gap_x) - gap_x + 4, height, [*bands, *boxes])


def svg(title: str, description: str, width: float, height: float, marks: Sequence[str]) -> Markup:
    """A chart that says in words what it shows."""
    inner = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(marks)}"
    spoken = escape(f"{title}: {description}", quote=True)
    # Every piece of text above went through `escape`.
    return Markup(
        f'<svg role="img" aria-label="{spoken}" viewBox="0 0 {width:g} {height:g}" width="{width:g}">{inner}</svg>'
    )


def line_mark(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a kind that the style sheet knows."""
    return f'<line class="{escape(kind)}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def text_mark(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    """Words, escaped."""
    return f'<text class="{escape(kind)}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
