"""The gate between challenger and champion: what it asks, and what it says when it refuses."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlflow import MlflowClient

from pipelines.config import ComparisonOptions, PromotionOptions
from pipelines.errors import PromotionError
from pipelines.evaluation.summary import signed
from pipelines.tracking.store import explained
from schemas.manifest import Manifest

VERDICTS = "promotion.json"
"""The artifact of a run: what the gate said of its version, the last time it was asked."""


@dataclass(frozen=True)
class Verdict:
    """One check of the gate: what was compared, and whether it holds."""

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Rival:
    """The champion that a challenger meets, measured on the challenger's own examples."""

    version: str
    metrics: dict[str, Any]
    """Slice -> metric -> {value, …}."""
    differences: dict[str, Any]
    """Slice -> metric -> the challenger's value minus the champion's, paired over users: {value, low, high, n}."""


def judge(
    options: PromotionOptions, metrics: dict[str, Any], baselines: dict[str, Any], champion: Rival | None
) -> list[Verdict]:
    """Compare the challenger with popularity and with the champion, on the test split.

    `metrics` is split -> slice -> metric -> {value, …}, `baselines` the same under each baseline's name.
    """
    where = f"{options.metric} on test/{options.slice}"
    slices = metrics.get("test", {})
    for key, name, known in (
        *(("slice", name, slices) for name in (options.slice, *options.against_champion)),
        ("metric", options.metric, slices.get(options.slice, {})),
    ):
        if known and name not in known:
            detail = f"promotion.{key} must be one that is measured ({', '.join(sorted(known))}), got {name}"
            return [Verdict("measured", False, detail)]
    entry = slices.get(options.slice, {}).get(options.metric)
    value = entry and entry.get("value")
    if value is None:
        return [Verdict("measured", False, f"{where} must be measured, but no test example falls in that slice")]
    verdicts = [Verdict("measured", True, f"{where} is {value:.4f}")]
    if options.min_lift_over_popularity is not None:
        popularity = (
            baselines.get("popularity", {}).get("test", {}).get(options.slice, {}).get(options.metric, {}).get("value")
        )
        needed = options.min_lift_over_popularity * (popularity or 0.0)
        verdicts.append(
            Verdict(
                "beats_popularity",
                # Where popularity has nothing, being no worse is no lift.
                popularity is not None and value >= needed and value > 0,
                f"{where} must be above 0 and at least {options.min_lift_over_popularity} × popularity's "
                f"{'(not measured)' if popularity is None else f'{popularity:.4f}'}, got {value:.4f}",
            )
        )
    if champion is not None:
        # The same examples were measured, so that a value is there where the challenger's is.
        level = champion.metrics[options.slice][options.metric]["value"]
        difference = champion.differences[options.slice][options.metric]
        verdicts.append(keeps_level(options, where, value, champion.version, level, difference, "examples"))
        verdicts += compare(options, champion)
    return verdicts


def compare(options: PromotionOptions, champion: Rival) -> Iterator[Verdict]:
    """Each slice that is to be held against the champion, by its paired difference."""
    for slice_, asked in options.against_champion.items():
        where = f"{options.metric} on test/{slice_}"
        level = champion.metrics.get(slice_, {}).get(options.metric, {}).get("value")
        difference = champion.differences.get(slice_, {}).get(options.metric)
        if level is None or difference is None or difference["value"] is None:
            yield Verdict(f"champion_{slice_}", True, f"{where} is not compared: no test example falls in that slice")
        else:
            yield _compared(where, slice_, asked, champion.version, level, difference)


def _compared(
    where: str, slice_: str, asked: ComparisonOptions, version: str, level: float, difference: Mapping[str, Any]
) -> Verdict:
    # Too few users for an interval: what was found has to do.
    bound = "value" if difference["low"] is None else asked.bound
    deciding, least = difference[bound], -asked.max_loss * level
    end = {"value": "the difference itself", "low": "the interval's lower end", "high": "the interval's upper end"}
    return Verdict(
        f"champion_{slice_}",
        # Published ends are rounded to six digits.
        deciding >= least - 1e-6,
        f"{where} must not fall by more than {-least:.4f} below the champion's (version {version}, {level:.4f} on the "
        f"same examples, less {asked.max_loss:.0%}): paired difference {signed(difference)} over {difference['n']} "
        f"users, {end[bound]} decides",
    )


def judge_classifier(
    options: PromotionOptions, accuracy: Mapping[str, Any], commonest: float, champion: Rival | None
) -> list[Verdict]:
    """Compare the challenger with whoever says always the commonest class, and with the champion, on validation.

    `accuracy` is {value, …}; the champion's is under the slice `all`.
    """
    where, value = "accuracy on validation", accuracy["value"]
    verdicts = [
        Verdict(
            "beats_commonest",
            value > commonest,
            f"{where} must be above {commonest:.4f}, the share of the commonest class, got {value:.4f}",
        )
    ]
    if champion is not None:
        level, difference = (found["all"]["accuracy"] for found in (champion.metrics, champion.differences))
        verdicts.append(keeps_level(options, where, value, champion.version, level["value"], difference, "images"))
    return verdicts


def keeps_level(
    options: PromotionOptions,
    where: str,
    value: float,
    version: str,
    level: float,
    difference: Mapping[str, Any],
    of: str,
) -> Verdict:
    """Whether a challenger's `value` is not far below the `level` of the champion, `version`, on the same `of`."""
    floor = level * (1 - options.max_loss_against_champion)
    return Verdict(
        "keeps_champion_level",
        value >= floor,
        f"{where} must be at least {floor:.4f} (the champion, version {version}, has {level:.4f} on "
        f"the same {of}, less {options.max_loss_against_champion:.0%}), got {value:.4f}; paired "
        f"difference {signed(difference)}",
    )


def require(verdicts: Sequence[Verdict], name: str, version: str) -> list[dict[str, Any]]:
    """The checks as published. Raises PromotionError, with all that it refuses for, where one does not hold."""
    if refused := [verdict.detail for verdict in verdicts if not verdict.passed]:
        raise PromotionError(
            f"version {version} of {name} stays challenger: {'; '.join(refused)}; "
            "train a better model or change the promotion section"
        )
    return [asdict(verdict) for verdict in verdicts]


@explained()
def keep_verdicts(client: MlflowClient, run_id: str, verdicts: Sequence[Verdict], rival: Rival | None) -> None:
    """Put what the gate said into the run of the version that it judged, whether it opened or not."""
    told = {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "passed": all(verdict.passed for verdict in verdicts),
        "champion": rival.version if rival else None,
        "checks": [asdict(verdict) for verdict in verdicts],
    }
    client.log_dict(run_id, told, VERDICTS)


def judge_audit(state: str) -> Verdict:
    """Whether what the challenger was trained on passed the leakage audit: `state` as its training found it."""
    return Verdict(
        "audited",
        state == "passed",
        f"its training examples must have passed the leakage audit, got {state}; run `thaw run` without "
        "training.allow_unaudited",
    )


def judge_rollback(name: str, version: str, rolled_back: str) -> Verdict:
    """Whether nobody has taken the crown from this very version: `rolled_back` says when, or nothing."""
    # Nothing that passes names the version: it is no part of what a promotion is.
    told = "this one was never"
    if rolled_back:
        back = f"`thaw rollback --to {version} --model {name}` brings it back"
        told = f"version {version} was on {rolled_back}; train another, or {back}"
    rule = f"a version that was rolled back must not come back by itself, {told}"
    return Verdict("not_rolled_back", not rolled_back, rule)


def judge_features(audit: Manifest | None) -> Verdict:
    """Whether the audit found features as served equal to those that training read; `audit` is of its examples."""
    report = audit.facts.get("audit", {}) if audit else {}
    checks = [check for check in report.get("checks", []) if check["kind"] == "served"]
    skipped = [f"{skip['name']}: {skip['why']}" for skip in report.get("skipped", []) if skip["kind"] == "served"]
    found = [f"{check['checked']} {check['name']}, {check['failed']} differ" for check in checks] or skipped
    return Verdict(
        "features_as_served",
        bool(found) and all(check["passed"] for check in checks),
        "features as served must equal those of the examples, by the audit: "
        f"{'; '.join(found) or 'not looked at; run `thaw audit_leakage` and what follows it again'}",
    )
