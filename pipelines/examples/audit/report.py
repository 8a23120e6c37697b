"""What the audit says: checks that passed or failed, each with the rows it looked at and its first failure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipelines.errors import LeakageError

Kind = Literal["rows", "recomputed", "fitted", "probe", "raw", "served", "future", "thorough"]
"""How a check looks: at every row's own columns, at a sample recomputed, at fitted state, at one feature beside the
label, at raw rows read again, at what serving held that day, at all rows under another future; and what only a thorough
audit does."""


@dataclass(frozen=True)
class Check:
    """One rule, held against `checked` rows of which `failed` broke it."""

    name: str
    kind: Kind
    checked: int
    failed: int
    detail: str = ""
    """The first failure: row, column, and both values. What was compared where nothing failed."""

    @property
    def passed(self) -> bool:
        """No row broke the rule."""
        return self.failed == 0


@dataclass(frozen=True)
class Probed:
    """How well one feature alone tells the label, over `rows` examples: 0.5 not at all, 1 entirely."""

    feature: str
    auc: float
    rows: int


@dataclass(frozen=True)
class Skipped:
    """A check that could not be made, and why."""

    name: str
    kind: Kind
    why: str


@dataclass(frozen=True)
class AuditReport:
    """All checks, in the order they ran, and what else there is to say."""

    checks: tuple[Check, ...]
    probe: tuple[Probed, ...] = ()
    """Every feature, the most telling first."""
    cut: int | None = None
    """Where the other future began, UTC microseconds."""
    thorough: bool = False
    skipped: tuple[Skipped, ...] = ()

    @property
    def passed(self) -> bool:
        """Every check passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data: `checks` and `skipped` in the order they ran, `probe` sorted by AUC."""
        return {
            "passed": self.passed,
            "checks": [{**asdict(check), "passed": check.passed} for check in self.checks],
            "probe": [asdict(probed) for probed in self.probe],
            "cut": self.cut,
            "thorough": self.thorough,
            "skipped": [asdict(skipped) for skipped in self.skipped],
        }

    def require(self) -> None:
        """Raises LeakageError that names every failed check and its first failure."""
        broken = [check for check in self.checks if not check.passed]
        if broken:
            lines = [f"  {c.name}: {c.failed:,} of {c.checked:,} rows; {c.detail}" for c in broken]
            raise LeakageError(
                "no example may depend on what was not known at its time, and no label on what came after it closed; "
                f"{len(broken)} of {len(self.checks)} checks failed:\n" + "\n".join(lines) + "\n"
                "  Nothing was published. Correct the stage that made the named column, then build the examples again."
            )


def mismatch(row: str, column: str, found: Any, expected: Any) -> str:
    """A failure in words.

    >>> mismatch("example ab12", "item_click_count_7d", 4.0, 3.0)
    'example ab12, item_click_count_7d: published 4.0, should be 3.0'
    """
    return f"{row}, {column}: published {_short(found)}, should be {_short(expected)}"


def merged(name: str, kind: Kind, rows: int, failures: Sequence[str], note: str) -> Check:
    """A check from the list of its failures, one text a failing row."""
    return Check(name, kind, rows, len(failures), failures[0] if failures else note)


def _short(value: Any, width: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"
