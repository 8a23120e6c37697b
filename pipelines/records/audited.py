"""Whether records are of examples that passed the leakage audit: what their manifest says, and who may do without."""

from typing import Literal

from pipelines.errors import LeakageError
from schemas.manifest import Manifest

Audited = Literal["passed", "unaudited"]


def audit_state(records: Manifest) -> Audited:
    """What a records manifest says of its examples' audit."""
    return "passed" if records.facts.get("audit", {}).get("passed") is True else "unaudited"


def require_audit(records: Manifest, allow_unaudited: bool) -> Audited:
    """The state of the records' audit. Raises LeakageError where they have none and that is not allowed."""
    state = audit_state(records)
    if state != "passed" and not allow_unaudited:
        raise LeakageError(
            f"records must be of examples that passed the audit, those of {records.content_digest[:12]} did not; run "
            "`thaw audit_leakage` and `thaw write_records`, or set training.allow_unaudited: true for a trial that is "
            "never promoted"
        )
    return state
