"""A failed check says what broke; a report with one refuses."""

import json

import pytest

from pipelines.errors import LeakageError
from pipelines.examples.audit.report import AuditReport, Check, Probed, Skipped, merged, mismatch

GOOD = Check("clock", "rows", 10, 0, "as published")
BAD = merged("labels", "recomputed", 10, [mismatch("example ab12", "label", 1.0, 0.0)], "equal")


def test_a_report_passes_when_every_check_does() -> None:
    AuditReport((GOOD,)).require()
    assert json.loads(json.dumps(AuditReport((GOOD,)).to_json()))["passed"] is True
    assert AuditReport((GOOD, BAD)).to_json()["passed"] is False


def test_a_report_as_json_says_all_that_was_looked_at_and_what_was_not() -> None:
    skipped = Skipped("raw rows: interactions[0]", "raw", "the raw data was not there")
    report = AuditReport((GOOD,), (Probed("item_price", 0.6, 50),), cut=5, thorough=True, skipped=(skipped,))
    assert json.loads(json.dumps(report.to_json())) == {
        "passed": True,
        "checks": [
            {"name": "clock", "kind": "rows", "passed": True, "checked": 10, "failed": 0, "detail": "as published"}
        ],
        "probe": [{"feature": "item_price", "auc": 0.6, "rows": 50}],
        "cut": 5,
        "thorough": True,
        "skipped": [{"name": "raw rows: interactions[0]", "kind": "raw", "why": "the raw data was not there"}],
    }


def test_a_failed_check_names_example_column_and_both_values() -> None:
    with pytest.raises(LeakageError, match=r"labels: 1 of 10 rows; example ab12, label: published 1.0, should be 0.0"):
        AuditReport((GOOD, BAD)).require()
