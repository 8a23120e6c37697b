"""A failed check says what broke; a report with one refuses."""

import json

import pytest

from pipelines.errors import LeakageError
from pipelines.examples.audit.report import AuditReport, Check, merged, mismatch

GOOD = Check("clock", 10, 0, "as published")
BAD = merged("labels", 10, [mismatch("example ab12", "label", 1.0, 0.0)], "equal")


def test_a_report_passes_when_every_check_does() -> None:
    AuditReport((GOOD,)).require()
    assert json.loads(json.dumps(AuditReport((GOOD,)).to_json())) == {
        "passed": True,
        "checks": [{"name": "clock", "passed": True, "checked": 10, "failed": 0, "detail": "as published"}],
    }


def test_a_failed_check_names_example_column_and_both_values() -> None:
    with pytest.raises(LeakageError, match=r"labels: 1 of 10 rows; example ab12, label: published 1.0, should be 0.0"):
        AuditReport((GOOD, BAD)).require()
