"""What a search found, for people: the best of each family as a table, the best options as YAML."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipelines.config import Config, redacted
from pipelines.errors import InputError
from pipelines.search.space import applied, kind_of

COLUMNS = (
    "family", "trials", "accuracy", "± sd", "parameters", "multiply-adds", "file KB", "images/s", "training CPU s",
)  # fmt: skip


def best_of(trials: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The trial with the best accuracy; of equals the one with the fewest multiply-adds, then the earliest.

    Raises InputError where none came to its end.
    """
    complete = [trial for trial in trials if trial["accuracy"] is not None]
    if not complete:
        raise InputError(
            "a search must complete a trial, all were given up: their losses stopped being finite; look at the images, "
            "or set a family in search.families"
        )
    return min(complete, key=lambda trial: (-trial["accuracy"], trial["multiply_adds"], trial["number"]))


def finalists_of(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The best trial of each kind, the best first: which kind is better only a long training shows."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        if trial["accuracy"] is not None:
            kinds.setdefault(kind_of(trial["family"]), []).append(trial)
    best = best_of(trials)
    others = [best_of(of_kind) for of_kind in kinds.values()]
    return [best, *(trial for trial in others if trial is not best)]


def by_family(results: Mapping[str, Any], speeds: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The best trial of each family with its number of trials and its speeds, the best family first."""
    trials: dict[str, list[Mapping[str, Any]]] = {}
    for trial in results["trials"]:
        trials.setdefault(trial["family"], []).append(trial)
    rows = []
    for of_family in trials.values():
        if any(trial["accuracy"] is not None for trial in of_family):
            best = best_of(of_family)
            rows.append({**best, **speeds[str(best["number"])], "trials": len(of_family)})
    return sorted(rows, key=lambda row: -row["accuracy"])


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of `by_family` under COLUMNS."""
    spread = deviation(row["accuracies"])
    return [
        row["family"],
        str(row["trials"]),
        f"{row['accuracy']:.4f}",
        "" if spread is None else f"{spread:.4f}",
        f"{row['parameters']:,}",
        f"{row['multiply_adds']:,}",
        f"{row['bytes'] / 1024:,.0f}",
        f"{row['images_per_s']:,}",
        f"{row['cpu_s']:,.1f}",
    ]


def deviation(accuracies: Sequence[float]) -> float | None:
    """The standard deviation over folds; None of one."""
    if len(accuracies) < 2:
        return None
    mean = sum(accuracies) / len(accuracies)
    return float((sum((value - mean) ** 2 for value in accuracies) / (len(accuracies) - 1)) ** 0.5)


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`by_family` as lines of text. A column that says nothing is left out."""
    whole = [list(COLUMNS), *map(cells, rows)]
    kept = [place for place in range(len(COLUMNS)) if any(row[place] for row in whole[1:])]
    widths = {place: max(len(row[place]) for row in whole) for place in kept}
    return [
        "  ".join(row[p].ljust(widths[p]) if p == 0 else row[p].rjust(widths[p]) for p in kept).rstrip()
        for row in whole
    ]


def as_yaml(changes: Mapping[str, Any]) -> str:
    """Options of `classifier` as a section of a configuration; what was left of the search's time is none of them.

    >>> print(as_yaml({"family": "two_layer", "schedule.learning_rate": 0.001, "minutes": None}), end="")
    classifier:
      family: two_layer
      schedule:
        learning_rate: 0.001
    """
    section: dict[str, Any] = {"family": changes["family"]}
    for key, value in sorted(changes.items()):
        if value is None or key == "minutes":
            continue
        *parts, last = key.split(".")
        inner = section
        for part in parts:
            inner = inner.setdefault(part, {})
        inner[last] = value
    text: str = yaml.safe_dump({"classifier": section}, sort_keys=False, allow_unicode=True)
    return text


def whole_yaml(config: Config, changes: Mapping[str, Any]) -> str:
    """The configuration with the best options, for the jobs that come after a search."""
    kept = {key: value for key, value in changes.items() if key != "minutes"}
    settled = applied(config, kept).model_dump(mode="json", exclude_unset=True)
    return str(yaml.safe_dump(redacted(settled), sort_keys=False, allow_unicode=True))
