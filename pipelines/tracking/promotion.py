"""From challenger to champion: the gate, the aliases, and what the gate says when it refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient

from pipelines.config import PromotionOptions
from pipelines.errors import PromotionError
from pipelines.evaluation.summary import signed
from pipelines.tracking.registered import aliased
from pipelines.tracking.runs import CHALLENGER, CHAMPION
from pipelines.tracking.store import explained


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
        ("slice", options.slice, slices),
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
    return verdicts


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
    return [{"check": v.check, "passed": v.passed, "detail": v.detail} for v in verdicts]


def judge_audit(state: str) -> Verdict:
    """Whether what the challenger was trained on passed the leakage audit: `state` as its training found it."""
    return Verdict(
        "audited",
        state == "passed",
        f"its training examples must have passed the leakage audit, got {state}; run `thaw run` without "
        "training.allow_unaudited",
    )


@explained()
def crown(client: MlflowClient, name: str, version: str) -> None:
    """Make a version champion. It keeps no challenger alias: there is nothing left to challenge."""
    client.set_registered_model_alias(name, CHAMPION, version)
    holder = aliased(client, name, CHALLENGER)
    if holder is not None and holder.version == str(version):
        client.delete_registered_model_alias(name, CHALLENGER)
