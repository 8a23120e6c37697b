"""What the pages share: the template engine, its filters, and parts that more than one page shows."""

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import yaml

from pipelines.config import Config, redacted
from pipelines.evaluation.charts import curve_plot
from pipelines.evaluation.summary import figure, label, signed

PACKAGES = ("pyspark", "great-expectations", "tensorflow", "keras", "mlflow", "pyarrow", "numpy")


def fill(template: str, **view: Any) -> str:
    """A page of this folder, filled with what it shows."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "label": label,
        "figure": figure,
        "signed": signed,
        "moment": _moment,
        "day": _day,
        "number": "{:,}".format,
    }
    page: str = environment.get_template(template).render(**view)
    return page


def configuration(config: Config) -> str:
    """The configuration as YAML, without secrets."""
    return yaml.safe_dump(redacted(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True)


def curve_charts(history: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A chart per quantity, training and validation in one; `history` as trainings publish it."""
    epochs = (history or {}).get("epochs") or []
    names = [name for name in (epochs[0] if epochs else {}) if name != "epoch"]
    quantities = dict.fromkeys(name.removeprefix("validation_") for name in names)
    best = (history or {}).get("best_epoch")
    charts = []
    for quantity in quantities:
        pairs = (("training", quantity), ("validation", f"validation_{quantity}"))
        series = {kind: [epoch[name] for epoch in epochs] for kind, name in pairs if name in names}
        charts.append({"name": label(quantity), "svg": curve_plot(label(quantity), series, best)})
    return charts


def versions() -> dict[str, str]:
    """Python and the packages that results may depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _day(time_us: int) -> str:
    return _moment(time_us)[:10]


def _moment(time_us: int) -> str:
    """UTC microseconds as a date and time."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
