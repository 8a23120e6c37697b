"""From a registered version to all that made it, read from MLflow alone: the output folder may be gone.

What a run does not hold (it was logged by an older Thaw, or its artifacts are gone) is named as missing.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException
from requests.exceptions import HTTPError

from pipelines.tracking.champions import ROLLED_BACK, crownings_of
from pipelines.tracking.promotion import VERDICTS
from pipelines.tracking.provenance import LINEAGE
from pipelines.tracking.registered import Registered
from pipelines.tracking.runs import AUDIT_TAG, DIGEST_TAG, FROM_TAG
from pipelines.tracking.store import explained

_SHOWN = ("recall", "ndcg@10", "auc", "accuracy", "log_loss")
"""Metrics that the text shows, by how they begin; --json has all."""


@explained()
def lineage_of(client: MlflowClient, version: Registered) -> dict[str, Any]:
    """All that MLflow holds of a version, as plain data. What it should hold and does not is under `missing`."""
    found = client.get_model_version(version.name, version.version)
    aliases = client.get_registered_model(version.name).aliases
    run = client.get_run(found.run_id) if found.run_id else None
    tags, metrics = (run.data.tags, run.data.metrics) if run else ({}, {})
    made, verdicts = (_artifact(run, name) for name in (LINEAGE, VERDICTS))
    told = {
        "model": version.name,
        "version": version.version,
        "aliases": sorted(alias for alias, holder in aliases.items() if str(holder) == version.version),
        "registered_at": _moment(found.creation_timestamp),
        "run_id": found.run_id or None,
        "digest": found.tags.get(DIGEST_TAG),
        "data": (made or {}).get("data") or _records(tags),
        "seed": (made or {}).get("seed"),
        "code_version": (made or {}).get("code_version") or tags.get("thaw.code_version"),
        "thaw": (made or {}).get("thaw"),
        "config": (made or {}).get("config") or _nested(run.data.params if run else {}),
        "trained_from": tags.get(FROM_TAG),
        "audit": {"state": found.tags.get(AUDIT_TAG), "digest": tags.get("thaw.audit_digest")},
        "metrics": {key: value for key, value in sorted(metrics.items()) if not key.startswith("epoch/")},
        "gate": verdicts,
        "champion": _reigns(client, version),
        "rolled_back": found.tags.get(ROLLED_BACK),
    }
    return {**told, "missing": _missing(told, run is not None, made)}


def lineage_lines(told: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    aliases = f" ({', '.join(told['aliases'])})" if told["aliases"] else ""
    lines = [f"{told['model']} version {told['version']}{aliases}"]

    def add(name: str, *values: str) -> None:
        lines.extend(f"  {name if place == 0 else '':<14}{value}" for place, value in enumerate(values))

    add("registered", f"{told['registered_at']}, run {told['run_id'] or 'unknown'}")
    if told["digest"]:
        add("model", told["digest"][:12])
    add("data", *(_data_line(name, about) for name, about in told["data"].items()))
    add("code", (told["code_version"] or "unknown") + (f", Thaw {told['thaw']}" if told["thaw"] else ""))
    if told["seed"] is not None:
        add("seed", str(told["seed"]))
    add(
        "configuration",
        f"{told['config'].get('name', 'unknown')}; --json shows all of it" if told["config"] else "unknown",
    )
    if told["trained_from"]:
        add("started from", told["trained_from"])
    if told["audit"]["state"]:
        digest = told["audit"]["digest"]
        add("audit", told["audit"]["state"] + (f", {digest[:12]}" if digest and digest != "none" else ""))
    add("metrics", *_metric_lines(told["metrics"]))
    if gate := told["gate"]:
        add("gate", f"{'opened' if gate['passed'] else 'REFUSED'}, {gate['at']}", *map(_check_line, gate["checks"]))
    add("champion", *(_reign_line(reign) for reign in told["champion"]))
    if told["rolled_back"]:
        add("rolled back", told["rolled_back"])
    add("missing", *told["missing"])
    return lines


def _artifact(run: Any, name: str) -> dict[str, Any] | None:
    """A JSON artifact of a run; None where it is not there."""
    if run is None:
        return None
    try:
        value: dict[str, Any] = artifacts.load_dict(f"{run.info.artifact_uri}/{name}")
    except (MlflowException, HTTPError, OSError) as error:
        if "failed with exception" in str(error):  # the server is away: that says nothing of the artifact
            raise
        return None
    return value


def _records(tags: Mapping[str, str]) -> dict[str, Any]:
    digest = tags.get("thaw.records_digest")
    return {"records": {"digest": digest}} if digest else {}


def _nested(params: Mapping[str, str]) -> dict[str, Any]:
    """Flattened parameters as a configuration whose values are text."""
    whole: dict[str, Any] = {}
    for key, value in params.items():
        *path, last = key.split(".")
        place = whole
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return whole


def _reigns(client: MlflowClient, version: Registered) -> list[dict[str, Any]]:
    """From when to when the version was champion, and how it became that."""
    crownings = crownings_of(client, version.name)
    ends = [*(crowning.at for crowning in crownings[1:]), None]
    return [
        {
            "since": f"{crowning.at:%Y-%m-%d %H:%M:%S} UTC",
            "until": f"{end:%Y-%m-%d %H:%M:%S} UTC" if end else None,
            "how": crowning.how,
            "over": crowning.over,
        }
        for crowning, end in zip(crownings, ends, strict=True)
        if crowning.version == version.version
    ]


def _missing(told: Mapping[str, Any], has_run: bool, made: Mapping[str, Any] | None) -> list[str]:
    wanted = {
        "its run": has_run,
        f"the run's {LINEAGE}: digests beyond those of the records, the seed": made is not None,
        "measurements: `thaw promote_model` logs them": bool(told["metrics"]),
        "a verdict of the gate: it was never asked": told["gate"] is not None,
    }
    gone = [f"{name}: its digest alone is known" for name, about in told["data"].items() if len(about) == 1 and made]
    return [name for name, there in wanted.items() if not there] + gone


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "unknown"
    return f"{dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _data_line(name: str, about: Mapping[str, Any]) -> str:
    rows = sum((about.get("rows") or {}).values())
    parts = [f"{rows:,} rows" if rows else "", f"made {about['made_at']}" if about.get("made_at") else ""]
    if about.get("raw_files"):
        parts.append(f"raw files {about['raw_files'][:12]}")
    return f"{name:<16}{about['digest'][:12]}  {', '.join(part for part in parts if part)}".rstrip()


def _metric_lines(metrics: Mapping[str, float]) -> list[str]:
    shown = []
    for key, value in metrics.items():
        split, _, rest = key.partition("/")
        piece, _, metric = rest.partition("/")
        plain = metric.replace("_at_", "@")
        if piece in ("all", "cold_item", "warm") and plain.startswith(_SHOWN) and not key.endswith(("_low", "_high")):
            shown.append(f"{split}/{piece} {plain} {value:.4f}")
    return shown


def _check_line(check: Mapping[str, Any]) -> str:
    return f"{'yes' if check['passed'] else 'NO '} {check['check']}: {check['detail']}"


def _reign_line(reign: Mapping[str, Any]) -> str:
    over = f" over version {reign['over']}" if reign["over"] else ""
    return f"{reign['since']} to {reign['until'] or 'now'}: {reign['how']}{over}"
