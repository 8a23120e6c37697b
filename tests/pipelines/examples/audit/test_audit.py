"""The whole audit on real builds: an honest one passes, real leaks in the real code stop the run."""

import pytest
from pyspark.sql import functions as F

from pipelines.errors import LeakageError
from pipelines.examples import build as build_module
from pipelines.examples import sides
from pipelines.examples.audit.audit import audit
from pipelines.examples.build import build
from pipelines.examples.fit import fit

SMALL = {
    "entities": ["item"],
    "recent": [],
    "windows": ["1d", "lifetime"],
    "statistics": [{"name": "click", "kind": "count", "actions": ["click"]}],
}


def failed(report) -> list[tuple[str, str]]:
    return [(check.name, check.detail) for check in report.checks if not check.passed]


def test_an_honest_build_passes_every_check(world) -> None:
    report = audit(world.built, world.tables, world.config, world.fitted)
    assert failed(report) == []
    assert all(check.checked for check in report.checks)
    report.require()


@pytest.mark.parametrize(
    ("accuracy", "labels"),
    [
        ("exact", {"rule": "sampled", "negatives": 2}),
        ("snapshot", {"rule": "threshold", "threshold": 1.0}),
    ],
)
def test_every_rule_and_accuracy_passes(accuracy, labels, tables, make_config, publish) -> None:
    config = make_config(labels=labels, preferences={**SMALL, "accuracy": accuracy})
    fitted = fit(tables.interactions, config)
    report = audit(publish(build(tables, config, fitted)), tables, config, fitted)
    assert failed(report) == []


def _moved(function, **moves):
    """`function` over rows whose time columns are moved, as a slip of the pen would."""

    def leaky(rows, *args, **kwargs):
        shifted = rows.withColumns({name: F.col(name) + move for name, move in moves.items()})
        back = {name: F.col(name) - move for name, move in moves.items()}
        return function(shifted, *args, **kwargs).withColumns(back)

    return leaky


DAY = 86_400_000_000
LEAKS = {
    "availability ignored": (sides, "attach_statistics", {"known_by": 400 * DAY}, {"rule": "impressions"}),
    "closed right edge": (sides, "attach_statistics", {"as_of": 1}, {"rule": "impressions"}),
    "content too new": (sides, "attach_content", {"event_time": 3 * DAY}, {"rule": "impressions"}),
    "negatives from the future": (
        build_module,
        "with_negatives",
        {"event_time": 400 * DAY},
        {"rule": "sampled", "negatives": 3},
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_real_leak_stops_the_run(leak, tables, make_config, publish, monkeypatch) -> None:
    module, name, moves, labels = LEAKS[leak]
    config = make_config(labels=labels, preferences=SMALL)
    fitted = fit(tables.interactions, config)
    monkeypatch.setattr(module, name, _moved(getattr(module, name), **moves))
    published = publish(build(tables, config, fitted))
    report = audit(published, tables, config, fitted, rebuild=lambda *_: published)
    with pytest.raises(LeakageError, match=r"example [0-9a-f]{32}, \w+: published .*, should be ") as caught:
        report.require()
    assert caught.value.exit_code == 3


def test_priors_of_the_whole_log_are_caught(world) -> None:
    everything = fit(world.tables.interactions, world.config.model_copy(update={"split": _split_late(world.config)}))
    fitted = world.fitted.model_copy(update={"priors": everything.priors})
    from pipelines.examples.audit.priors import check_priors

    assert check_priors(world.tables.interactions, world.config, world.fitted).passed
    check = check_priors(world.tables.interactions, world.config, fitted)
    assert not check.passed and "click_rate" in check.detail


def _split_late(config):
    return config.split.model_copy(update={"validation_start": "2024-10-14", "test_start": "2024-10-15"})
