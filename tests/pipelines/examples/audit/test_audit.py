"""The whole audit on real builds: an honest one passes, real leaks in the real code stop the run."""

import pytest

from pipelines.errors import LeakageError
from pipelines.examples import sides
from pipelines.examples.audit import audit as audit_module
from pipelines.examples.audit.audit import audit
from pipelines.examples.fit import fit
from pipelines.features import feature_set

SMALL = {
    "entities": ["item"],
    "recent": [],
    "windows": ["1d", "lifetime"],
    "statistics": [{"name": "click", "kind": "count", "actions": ["click"]}],
}


def failed(report) -> list[tuple[str, str]]:
    return [(check.name, check.detail) for check in report.checks if not check.passed]


def test_an_honest_build_passes_every_check(world, building) -> None:
    with building() as build:
        report = audit(world.built, world.tables, world.config, world.fitted, build)
    assert failed(report) == []
    assert all(check.checked for check in report.checks)
    assert {check.kind for check in report.checks} == {"rows", "recomputed", "fitted", "probe", "served", "future"}
    assert [skipped.kind for skipped in report.skipped] == ["raw"] * 3
    found = report.to_json()
    assert found["probe"] == sorted(found["probe"], key=lambda probed: -probed["auc"])
    assert len(found["probe"]) == len(feature_set(world.config).columns)
    assert found["cut"] > world.fitted.cuts.validation_start
    report.require()


@pytest.mark.parametrize(
    ("accuracy", "labels"),
    [
        ("exact", {"rule": "sampled", "negatives": 2}),
        ("snapshot", {"rule": "threshold", "threshold": 1.0}),
    ],
)
def test_every_rule_and_accuracy_passes(accuracy, labels, tables, make_config, building, publish) -> None:
    config = make_config(labels=labels, preferences={**SMALL, "accuracy": accuracy})
    fitted = fit(tables.interactions, config)
    with building() as build:
        report = audit(publish(build(tables, config, fitted)), tables, config, fitted, build)
    assert failed(report) == []


def test_a_real_leak_names_the_example_the_column_and_both_values(
    tables, make_config, building, publish, monkeypatch
) -> None:
    config = make_config(preferences=SMALL)
    fitted = fit(tables.interactions, config)
    honest = sides.in_training_period
    monkeypatch.setattr(sides, "in_training_period", lambda cuts: ~honest(cuts))
    with building() as build:
        published = publish(build(tables, config, fitted))
    report = audit(published, tables, config, fitted, rebuild=lambda *_: published)
    with pytest.raises(LeakageError, match=r"example [0-9a-f]{32}, \w+: published .*, should be ") as caught:
        report.require()
    assert caught.value.exit_code == 3


def test_a_thorough_audit_looks_at_more_cuts_and_at_every_row(
    tables, make_config, building, publish, monkeypatch
) -> None:
    monkeypatch.setattr(audit_module, "THOROUGH_CUTS", (0.3,))
    config = make_config(preferences=SMALL, audit={"thorough": True, "sample": 6})
    fitted = fit(tables.interactions, config)
    with building() as build:
        published = publish(build(tables, config, fitted))
        report = audit(published, tables, config, fitted, build)
    assert failed(report) == [] and report.to_json()["thorough"] is True
    further = {check.name: check for check in report.checks if check.kind == "thorough"}
    assert any("another future from 2024-10" in name for name in further)
    rows = {
        what: further[f"another row order: {what} rows"].checked
        for what in ("example", "candidate", "catalogue row", "item")
    }
    assert rows == {
        "example": published.examples.count(),
        "candidate": published.candidates.count(),
        "catalogue row": published.catalogue.count(),
        "item": published.exists.count(),
    }
    # 6 a split by default; five times as many here.
    assert next(c for c in report.checks if c.name == "recomputed: label").checked >= 30


def test_priors_of_the_whole_log_are_caught(world) -> None:
    everything = fit(world.tables.interactions, world.config.model_copy(update={"split": _split_late(world.config)}))
    fitted = world.fitted.model_copy(update={"priors": everything.priors})
    from pipelines.examples.audit.priors import check_priors

    assert check_priors(world.tables.interactions, world.config, world.fitted).passed
    check = check_priors(world.tables.interactions, world.config, fitted)
    assert not check.passed and "click_rate" in check.detail


def _split_late(config):
    return config.split.model_copy(update={"validation_start": "2024-10-14", "test_start": "2024-10-15"})
