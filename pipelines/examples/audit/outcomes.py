"""The plain recomputation of what became of an event: its label and when that closed, its split, whether it is cold.

As slow and obvious as `oracle`, and as independent: definitions come from the configuration and docs/time.md alone.
"""

import hashlib
from typing import Any

from pipelines.config import Config, parse_duration
from pipelines.examples.audit.log import NO_ROWS, Log, Past, Row, Rows
from schemas.columns import TIME_MIN_US
from schemas.fitted import Fitted
from schemas.interactions import INTERACTIONS

FOREVER = 2**63 - 1


class Outcomes:
    """Recomputes labels, splits, existence and cold flags from complete logs of their users and items."""

    def __init__(self, past: Past, config: Config, fitted: Fitted) -> None:
        self.past, self.config, self.fitted = past, config, fitted

    def exists_from(self, item: str) -> int | None:
        """The earliest of created_at, the first dated version and the first arrival of an event."""
        versions = self.past.items.all(item)
        created = [row["created_at"] for row in versions if row["created_at"] is not None]
        dated = [row["valid_from"] for row in versions if row["valid_from"] > TIME_MIN_US]
        seen = self.past.item_log.available[self.past.rows_of_item.get(item, NO_ROWS)]
        return min([*created, *dated, *seen.tolist()], default=None)

    def interval(self, item: str, time: int) -> dict[str, int]:
        """When the content version in effect at `time` begins and ends to be, as far as the item exists."""
        starts = [int(row["valid_from"]) for row in self.past.items.all(item)]
        begun = [start for start in starts if start <= time]
        exists = self.exists_from(item)
        return {
            "in_effect_from": max([*begun[-1:], *([] if exists is None else [exists])], default=0),
            "in_effect_to": min((start for start in starts if start > time), default=FOREVER),
        }

    def cold_user(self, user: str) -> bool:
        """No event of the user happened and was available in the training period."""
        return self._is_cold(self.past.user_log, self.past.rows_of_user.get(user, NO_ROWS))

    def cold_item(self, item: str) -> bool:
        """No event of the item happened and was available in the training period."""
        return self._is_cold(self.past.item_log, self.past.rows_of_item.get(item, NO_ROWS))

    def _is_cold(self, log: Log, rows: Rows) -> bool:
        start = self.fitted.cuts.validation_start
        return not any(log.time[r] < start and log.available[r] <= start for r in rows)

    def labels(self, row: Row) -> dict[str, Any] | None:
        """label, label_time and example_id of an example; None where no logged event gives rise to it."""
        log = self.past.user_log
        found = []
        for r in self.past.rows_of_user.get(row["user_id"], NO_ROWS).tolist():
            if log.time[r] == row["event_time"]:
                logged = self._impression(r) if self.config.labels.rule == "impressions" else self._action(r)
                if logged and row["negative_index"]:
                    found += [self._negative(row, logged)] if self._could_be_drawn(row, r) else []
                elif logged and log.item[r] == row["item_id"]:
                    found.append(logged)
        if "weight" not in self.config.quality.event_key:  # how an engine spells a float is not ours to define
            found = [logged for logged in found if logged["example_id"] == row["example_id"]]
        same = [logged for logged in found if all(row[name] == logged[name] for name in ("label", "label_time"))]
        return next(iter(same or found), None)

    def split(self, time: int) -> str:
        """train, validation or test."""
        cuts = self.fitted.cuts
        return "train" if time < cuts.validation_start else "validation" if time < cuts.test_start else "test"

    def _impression(self, r: int) -> dict[str, Any] | None:
        """An impression: 1 where a positive action within the window had arrived when the label closed."""
        log, options = self.past.user_log, self.config.labels
        if log.action[r] != options.impression_action:
            return None
        start, available = int(log.time[r]), int(log.available[r])
        end = start + parse_duration(options.label_window)
        closed = max(end + self._arrival_bound(), available)
        positive = any(
            log.item[p] == log.item[r] and start <= log.time[p] <= end and log.available[p] <= closed
            for p in log.acted(self.past.rows_of_user[log.user[r]], options.positive_actions)
        )
        return {"label": float(positive), "label_time": closed, "example_id": self._example_id(r)}

    def _action(self, r: int) -> dict[str, Any] | None:
        """A positive action: 1, or by the threshold rule 1 where its weight reaches the threshold."""
        log, options = self.past.user_log, self.config.labels
        if log.action[r] not in options.positive_actions:
            return None
        label = float(options.rule == "sampled" or log.weight[r] >= options.threshold)
        return {"label": label, "label_time": int(log.available[r]), "example_id": self._example_id(r)}

    def _could_be_drawn(self, row: Row, r: int) -> bool:
        """Whether the row's item existed at its time and is not the positive's own."""
        exists = self.exists_from(row["item_id"])
        return exists is not None and exists <= row["event_time"] and self.past.user_log.item[r] != row["item_id"]

    def _negative(self, row: Row, positive: dict[str, Any]) -> dict[str, Any]:
        name = _digest(positive["example_id"], row["negative_index"])
        return {**positive, "label": 0.0, "example_id": name}

    def _arrival_bound(self) -> int:
        logged = parse_duration(self.config.preferences.landing_delay)
        sources = self.config.source.interactions
        return max((logged if s.available_time else parse_duration(s.availability_lag) for s in sources), default=0)

    def _example_id(self, r: int) -> str:
        log = self.past.user_log
        event: dict[str, str | int | float] = {
            "user_id": log.user[r],
            "item_id": log.item[r],
            "event_time": int(log.time[r]),
            "action": log.action[r],
            "weight": float(log.weight[r]),
        }
        event_key = self.config.quality.event_key
        extra = [name for name in event_key if name not in INTERACTIONS.key]
        return _digest(*[event[name] for name in (*INTERACTIONS.key, *extra)], 0)


def _digest(*parts: str | int | float) -> str:
    """An example's name: each part as its length, a colon and its text, hashed."""
    texts = [str(part) for part in parts]
    return hashlib.sha256("".join(f"{len(text)}:{text}" for text in texts).encode()).hexdigest()[:32]
