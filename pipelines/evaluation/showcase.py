"""A few users with what they liked last and what they are shown, for people to judge by eye."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.evaluation.ranking import keyed_draws
from schemas.content import ContentKind

_SHOWN_VALUES = 4


@dataclass(frozen=True)
class Card:
    """An item as a person sees it."""

    item_id: str
    title: str
    detail: str
    """Its categories, so that a taste can be recognised."""
    new: bool
    """Nobody has met it yet."""
    score: float | None = None


@dataclass(frozen=True)
class Showcase:
    """One user: their latest positives, latest first, and the head of their list."""

    user_id: str
    liked: tuple[Card, ...]
    recommended: tuple[Card, ...]


def showcases(
    recommendations: pa.Table,
    items: pa.Table,
    interactions: pa.Table,
    positives: pa.Table,
    kinds: Mapping[str, ContentKind],
    *,
    seed: int,
    users: int = 6,
    length: int = 8,
) -> list[Showcase]:
    """Users chosen by keyed hash, two thirds of them with positives and the rest new, where there are such.

    `items` are the versions of the content table, of which the last one is shown.
    """
    known = set(positives["user_id"].unique().to_pylist())
    everyone = sorted(recommendations["user_id"].unique().to_pylist())
    order = [everyone[i] for i in np.argsort(keyed_draws([f"show {user}" for user in everyone], seed), kind="stable")]
    warm, new = [u for u in order if u in known], [u for u in order if u not in known]
    chosen = [*warm[: max(users * 2 // 3, users - len(new))], *new][:users]
    shown = _of(recommendations, chosen).sort_by("rank").to_pylist()
    liked = _of(positives, chosen).sort_by([("event_time", "descending"), ("item_id", "ascending")]).to_pylist()
    ids = {row["item_id"] for row in (*shown, *liked)}
    cards = _Cards(items, ids, kinds, set(interactions["item_id"].unique().to_pylist()))
    return [
        Showcase(
            user,
            tuple(cards.card(item) for item in _first([r["item_id"] for r in liked if r["user_id"] == user], length)),
            tuple(cards.card(r["item_id"], r["score"]) for r in shown if r["user_id"] == user)[:length],
        )
        for user in chosen
    ]


class _Cards:
    def __init__(self, items: pa.Table, ids: set[str], kinds: Mapping[str, ContentKind], met: set[str]) -> None:
        wanted = items.filter(pc.is_in(items["item_id"], value_set=pa.array(sorted(ids), pa.string())))
        # Later versions replace earlier ones.
        self._rows = {row["item_id"]: row for row in wanted.sort_by("valid_from").to_pylist()}
        self._columns = [name for name, kind in kinds.items() if kind in ("category", "categories")]
        self._met = met

    def card(self, item: str, score: float | None = None) -> Card:
        row = self._rows.get(item, {})
        return Card(item, row.get("title") or item, self._detail(row), item not in self._met, score)

    def _detail(self, row: Mapping[str, Any]) -> str:
        values: list[str] = []
        for name in self._columns:
            value = row.get(name) or []
            values += [value] if isinstance(value, str) else value[:_SHOWN_VALUES]
        return ", ".join(values)


def _of(table: pa.Table, users: list[str]) -> pa.Table:
    return table.filter(pc.is_in(table["user_id"], value_set=pa.array(users, pa.string())))


def _first(items: list[str], length: int) -> list[str]:
    return list(dict.fromkeys(items))[:length]
