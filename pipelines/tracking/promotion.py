"""From challenger to champion: the gate, the aliases, and what the gate says when it refuses."""

from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException

from pipelines.config import PromotionOptions
from pipelines.tracking.runs import CHALLENGER, CHAMPION, SCORER, metric_key
from pipelines.tracking.store import explained


@dataclass(frozen=True)
class Verdict:
    """One check of the gate: what was compared, and whether it holds."""

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Rival:
    """The champion that a challenger meets."""

    version: str
    value: float | None
    """The gate's metric, as logged when it was evaluated; None where that was not measured."""


def judge(
    options: PromotionOptions, metrics: dict[str, Any], baselines: dict[str, Any], champion: Rival | None
) -> list[Verdict]:
    """Compare the challenger with popularity and with the champion, on the test split.

    `metrics` is split -> slice -> metric -> {value, …}, `baselines` the same under each baseline's name. The champion's
    value is the one of its own evaluation, which may have had another test period.
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
    if champion is not None and champion.value is None:
        detail = (
            f"{where} of the champion, version {champion.version}, must be known, and its run does not have it; choose "
            "a metric that it was measured by, or remove its alias `champion` to start anew"
        )
        verdicts.append(Verdict("keeps_champion_level", False, detail))
    elif champion is not None and champion.value is not None:
        floor = champion.value * (1 - options.max_loss_against_champion)
        verdicts.append(
            Verdict(
                "keeps_champion_level",
                value >= floor,
                f"{where} must be at least {floor:.4f} (champion {champion.value:.4f}, less "
                f"{options.max_loss_against_champion:.0%}), got {value:.4f}",
            )
        )
    return verdicts


def judge_audit(state: str) -> Verdict:
    """Whether what the challenger was trained on passed the leakage audit: `state` as its training found it."""
    return Verdict(
        "audited",
        state == "passed",
        f"its training examples must have passed the leakage audit, got {state}; run `thaw run` without "
        "training.allow_unaudited",
    )


@explained()
def version_of(client: MlflowClient, name: str, alias: str) -> Any | None:
    """The registered version behind an alias, or None where there is no such model or alias."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # A store says so in two ways: no such model, no such alias. Any other trouble is not an absence.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


@explained()
def rival(client: MlflowClient, name: str, challenger: str, options: PromotionOptions) -> Rival | None:
    """The current champion, or None where there is no other version to beat."""
    champion = version_of(client, name, CHAMPION)
    if champion is None or str(champion.version) == str(challenger):
        return None
    logged: dict[str, float] = client.get_run(champion.run_id).data.metrics
    return Rival(str(champion.version), logged.get(metric_key("test", options.slice, options.metric)))


@explained()
def crown(client: MlflowClient, name: str, version: str) -> None:
    """Make a version champion. It keeps no challenger alias: there is nothing left to challenge."""
    client.set_registered_model_alias(name, CHAMPION, version)
    holder = version_of(client, name, CHALLENGER)
    if holder is not None and str(holder.version) == str(version):
        client.delete_registered_model_alias(name, CHALLENGER)


@explained()
def scorer_files(client: MlflowClient, name: str, alias: str) -> str | None:
    """A local folder with the scorer files of an aliased version, or None where the alias is not set."""
    version = version_of(client, name, alias)
    if version is None:
        return None
    folder: str = artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version.version}")
    return f"{folder.rstrip('/')}/artifacts/{SCORER}"
