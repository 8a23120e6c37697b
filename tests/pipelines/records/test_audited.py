"""Records say whether their examples passed the audit, and training listens."""

import pytest

from pipelines.errors import LeakageError
from pipelines.records.audited import require_audit
from schemas.manifest import Manifest


def records(**facts) -> Manifest:
    return Manifest(dataset="records", tables={}, facts=facts, seed=1)


def test_records_of_audited_examples_may_be_trained_on() -> None:
    assert require_audit(records(audit={"passed": True}), allow_unaudited=False) == "passed"
    assert require_audit(records(audit={"passed": True}), allow_unaudited=True) == "passed"


@pytest.mark.parametrize("facts", [{}, {"audit": {}}, {"audit": {"passed": False}}, {"audit": {"passed": "yes"}}])
def test_records_that_do_not_say_so_are_refused_unless_that_is_allowed(facts) -> None:
    with pytest.raises(LeakageError) as caught:
        require_audit(records(**facts), allow_unaudited=False)
    assert caught.value.exit_code == 3
    for words in (records(**facts).content_digest[:12], "`thaw audit_leakage`", "training.allow_unaudited: true"):
        assert words in str(caught.value)
    assert require_audit(records(**facts), allow_unaudited=True) == "unaudited"
