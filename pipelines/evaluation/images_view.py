"""The report's section on images: what made their vectors, and what a model loses without them."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.config import Config
from pipelines.evaluation.summary import headline_metrics

PARTS = ("all", "cold_item")
"""Slices that say whether images help, and where they should."""


def images_view(config: Config, summary: Mapping[str, Any], ablation: Mapping[str, Any] | None) -> Any:
    """What the template shows: the summary's `images`, which inputs are vectors of them, and variants without these."""
    if not summary["images"]:
        return None
    sides = (("item", config.source.items), ("user", config.source.users))
    inputs = [f"{side}_{name}" for side, sources in sides for s in sources if s.dataset for name in s.columns]
    rows = ablation["variants"] if ablation else ()
    return {**summary["images"], "inputs": inputs, "without": _without(rows, inputs), "parts": PARTS}


def _without(rows: Sequence[Mapping[str, Any]], inputs: Sequence[str]) -> list[dict[str, Any]]:
    """Variants that do nothing but leave inputs out, images among them: what is lost, by slice and metric."""
    found = []
    for row in rows:
        left_out = row["changes"].get("model.leave_out") or ()
        if set(row["changes"]) == {"model.leave_out"} and set(left_out) & set(inputs) and not row["is_default"]:
            lost = {part: row["differences"][part] for part in PARTS if part in row["differences"]}
            found.append({"left_out": left_out, "metrics": headline_metrics(row["metrics"]["all"]), "lost": lost})
    return found
