"""The gate: a failed audit publishes nothing and ends with exit code 3."""

from types import SimpleNamespace

import pytest

from jobs import audit_leakage
from jobs.launch import DEFAULT_CONFIG, Context
from pipelines.config import load_config
from pipelines.errors import LeakageError
from pipelines.examples.audit.report import AuditReport, Check

FITTED = {"cuts": {"validation_start": 1, "test_start": 2, "end": 3}, "priors": {}}


@pytest.fixture
def context(tmp_path, monkeypatch) -> Context:
    """A context whose tables are not looked at."""
    monkeypatch.setattr(audit_leakage, "spark_session", lambda options: None)
    for reader in ("read_table", "clean_tables"):
        monkeypatch.setattr(audit_leakage, reader, lambda *args: None)
    parent = SimpleNamespace(read_json=lambda name: FITTED)
    parents = dict.fromkeys(("clean", "examples", "preferences"), parent)
    return Context(load_config([DEFAULT_CONFIG]), None, None, parents, str(tmp_path))


def test_a_passed_audit_publishes_its_checks(context, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(audit_leakage, "audit", lambda *args, **kwargs: AuditReport((Check("clock", 3, 0, "fine"),)))
    draft = audit_leakage.run(context)
    assert draft.facts["audit"]["passed"] is True
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


def test_a_failed_audit_publishes_nothing(context, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        audit_leakage, "audit", lambda *args, **kwargs: AuditReport((Check("clock", 3, 1, "example ab12, …"),))
    )
    with pytest.raises(LeakageError, match="example ab12") as caught:
        audit_leakage.run(context)
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []
