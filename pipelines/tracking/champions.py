"""Who is champion, who was, and the way back: tags on the registered versions, which last as long as these do.

A version that becomes champion gets a tag named by the time (UTC), so that the registry alone tells the order.
"""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlflow import MlflowClient

from pipelines.errors import TrackingError
from pipelines.tracking.registered import aliased
from pipelines.tracking.runs import CHALLENGER, CHAMPION
from pipelines.tracking.store import explained

CROWNED = "thaw.crowned."
"""Start of the tag of a version that became champion; the time follows, its value is a Crowning's `how` and `over`."""
ROLLED_BACK = "thaw.rolled_back"
"""Tag of a version that a rollback took the crown from: when, and who has it since."""
_TIME = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True)
class Crowning:
    """That a version became champion."""

    at: dt.datetime
    version: str
    how: Literal["promoted", "rolled back"]
    over: str | None
    """The champion until then."""


def succession(crownings: Sequence[Crowning]) -> list[str]:
    """Versions that became champion one after the other, today's last. Those that were rolled back are left out.

    `crownings` are in the order of time.
    """
    line: list[str] = []
    for crowning in crownings:
        # Who was champion before anything was written down is known from its successor.
        if crowning.over and crowning.over not in line[-1:]:
            line.append(crowning.over)
        if crowning.how == "rolled back" and crowning.version in line:
            while line[-1] != crowning.version:
                line.pop()
        elif crowning.version not in line[-1:]:
            line.append(crowning.version)
    return line


@explained()
def crownings_of(client: MlflowClient, name: str) -> list[Crowning]:
    """What the registry's versions tell, in the order of time."""
    found = []
    for version in _versions(client, name):
        for key, value in version.tags.items():
            if key.startswith(CROWNED):
                at = dt.datetime.strptime(key.removeprefix(CROWNED), _TIME).replace(tzinfo=dt.UTC)
                found.append(Crowning(at, str(version.version), **json.loads(value)))
    return sorted(found, key=lambda crowning: crowning.at)


@explained()
def crown(client: MlflowClient, name: str, version: str) -> None:
    """Make a version champion. It keeps no challenger alias: there is nothing left to challenge."""
    _crown(client, name, version, "promoted")
    holder = aliased(client, name, CHALLENGER)
    if holder is not None and holder.version == str(version):
        client.delete_registered_model_alias(name, CHALLENGER)


@explained()
def roll_back(client: MlflowClient, name: str, to: str | None = None) -> tuple[str, str]:
    """Give the crown back to the champion before, or to the version `to`, which must have been champion once.

    Once more goes back one further. Those that it passes over are marked: they are not promoted again. `to` may also be
    one of these; that takes the mark away. Returns today's champion until now, and from now on.
    Raises TrackingError where there is none to go back from, or to.
    """
    champion = aliased(client, name, CHAMPION)
    if champion is None:
        raise TrackingError(f"a rollback needs a champion, {name} has none; `thaw promote_model` makes one")
    there = {str(version.version) for version in _versions(client, name)}
    crownings = crownings_of(client, name)
    line = [version for version in succession(crownings) if version in there]
    if champion.version not in line[-1:]:  # made champion by other means
        line.append(champion.version)
    if to is None:
        if len(line) < 2:
            raise TrackingError(
                f"a rollback needs a champion before version {champion.version} of {name}, none is known; name one: "
                "--to VERSION"
            )
        to = line[-2]
    elif to not in there or to not in {*line, *(c.version for c in crownings), *(c.over for c in crownings)}:
        was = sorted({*line, *(c.version for c in crownings)} & there, key=int)
        raise TrackingError(
            f"--to must be a version of {name} that was champion once ({', '.join(was)}), got {to}; a gate opens to "
            "others: `thaw promote_model`"
        )
    if to == champion.version:
        return champion.version, to
    passed = line[len(line) - line[::-1].index(to) :] if to in line else []
    _crown(client, name, to, "rolled back" if passed else "promoted")
    for version in {*passed} - {to}:
        client.set_model_version_tag(name, version, ROLLED_BACK, f"{_now():%Y-%m-%d %H:%M} UTC, to version {to}")
    if rolled_back(client, name, to):
        client.delete_model_version_tag(name, to, ROLLED_BACK)
    return champion.version, to


@explained()
def rolled_back(client: MlflowClient, name: str, version: str) -> str:
    """When a version was rolled back, and to which; empty where it was not."""
    return str(client.get_model_version(name, version).tags.get(ROLLED_BACK, ""))


def _crown(client: MlflowClient, name: str, version: str, how: str) -> None:
    """Move the alias, then write it down: who dies between is found by `roll_back` all the same."""
    before, crownings = aliased(client, name, CHAMPION), crownings_of(client, name)
    client.set_registered_model_alias(name, CHAMPION, version)
    if succession(crownings)[-1:] == [str(version)]:
        return
    over = before.version if before is not None and before.version != str(version) else None
    # Clocks of two machines may differ: what comes later is later.
    at = max([_now(), *(c.at + dt.timedelta(microseconds=1) for c in crownings[-1:])])
    client.set_model_version_tag(name, version, f"{CROWNED}{at:{_TIME}}", json.dumps({"how": how, "over": over}))


def _versions(client: MlflowClient, name: str) -> list[Any]:
    quote = '"' if "'" in name else "'"
    return list(client.search_model_versions(f"name={quote}{name}{quote}", max_results=10_000))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
