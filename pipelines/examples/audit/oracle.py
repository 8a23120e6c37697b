"""The plain recomputation: every column of a row straight from its definition, one row and one window at a time.

Nothing here is shared with the code that made the rows: no sweep, no join, no cumulative sum. It is slow and obvious
on purpose. What it reads is gathered by `evidence`, what differs is reported by `recheck`.
"""

import math
from typing import Any

import numpy as np

from pipelines.config import Config, LabelOptions, StatisticOptions, parse_duration
from pipelines.examples.audit.log import NO_ROWS, Clock, Log, Past, Row, Rows, as_list
from pipelines.features import windows_of
from schemas.fitted import Fitted
from schemas.preferences import LIFETIME, US_PER_DAY, statistic_name

WEIGHT_UNITS = 2.0**20
FIRST = -(2**62)
"""Before any event."""


class Oracle:
    """Recomputes features from complete logs of their users, items and categories."""

    def __init__(self, past: Past, config: Config, fitted: Fitted) -> None:
        self.past, self.config, self.fitted, self.options = past, config, fitted, config.preferences
        self._rows_of_category = {
            entity: past.item_log.rows_by(self._categories(past.item_log, entity))
            for entity in self.options.entities
            if entity.startswith("item.")
        }

    def clock(self, time: int) -> Clock:
        """The clock served at a time."""
        if self.options.accuracy == "exact":
            return Clock(time, time)
        period = parse_duration(self.options.period)
        boundary = (time - parse_duration(self.options.publish_delay)) // period * period
        return Clock(boundary, boundary + parse_duration(self.options.landing_delay))

    def user_features(self, user: str, time: int, clock: Clock) -> dict[str, Any]:
        """User content as of `time`, statistics and bags as of the clock."""
        content = self.past.users.at(user, time)
        rows = self.past.rows_of_user.get(user, NO_ROWS)
        values = {f"user_{name}": content.get(name) for name in self.config.content_kinds("user")}
        if "user" in self.options.entities:
            values |= self._statistics("user", self.past.user_log, [rows], clock)
        return values | self._bags(rows, clock)

    def item_features(self, item: str, time: int, clock: Clock) -> dict[str, Any]:
        """Item content as of `time`, statistics of the item and of its categories then as of the clock."""
        content = self.past.items.at(item, time)
        values = {f"item_{name}": content.get(name) for name in self.config.content_kinds("item")}
        for entity in self.options.entities:
            if entity.startswith("item"):
                values |= self._statistics(entity, self.past.item_log, self._groups(entity, item, content), clock)
        return values

    def cross_features(self, user: str, item: str, time: int, clock: Clock) -> dict[str, Any]:
        """Statistics of the user with the item, or with its categories then, as of the clock."""
        values: dict[str, Any] = {}
        for entity in self._crosses:
            values |= self._statistics(entity, self.past.user_log, self._pairs(entity, user, item, time), clock)
        return values

    def last_known(self, user: str, item: str, time: int, clock: Clock) -> tuple[int | None, int | None]:
        """Largest event_time and largest available_time among all events that count at the clock, of any age."""
        content = self.past.items.at(item, time)
        own = self.past.rows_of_user.get(user, NO_ROWS)
        counted = (
            own if "user" in self.options.entities else self._latest(own, clock) if self.options.recent else NO_ROWS
        )
        sides = [(self.past.user_log, counted)]
        for entity in self.options.entities:
            if entity.startswith("item"):
                sides += [(self.past.item_log, rows) for rows in self._groups(entity, item, content)]
        for entity in self._crosses:
            sides += [(self.past.user_log, rows) for rows in self._pairs(entity, user, item, time)]
        known = [(log, log.known(rows, clock)) for log, rows in sides]
        times = [int(log.time[rows].max()) for log, rows in known if len(rows)]
        available = [int(log.available[rows].max()) for log, rows in known if len(rows)]
        return max(times, default=None), max(available, default=None)

    def past_positives(self, item: str, clock: Clock) -> int:
        """Positive events of an item known at the clock."""
        log = self.past.item_log
        return len(positives(log, log.known(self.past.rows_of_item.get(item, NO_ROWS), clock), self.config.labels))

    def _groups(self, entity: str, item: str, content: Row) -> list[Rows]:
        """Rows of the item log for an entity: the item's own, or one group a category of its content."""
        if entity == "item":
            return [self.past.rows_of_item.get(item, NO_ROWS)]
        values = as_list(content.get(entity.removeprefix("item.")))
        return [self._rows_of_category[entity].get(value, NO_ROWS) for value in dict.fromkeys(values)]

    def _pairs(self, entity: str, user: str, item: str, time: int) -> list[Rows]:
        """The user's rows for a cross: those with the item, or one group a category of the item's content at `time`."""
        log, own = self.past.user_log, self.past.rows_of_user.get(user, NO_ROWS).tolist()
        column = entity.partition(".")[2]
        if not column:
            return [np.array([row for row in own if log.item[row] == item], dtype=np.int64)]

        def categories(shown: str, when: int) -> list[str]:
            return as_list(self.past.items.at(shown, when).get(column))

        return [
            np.array([row for row in own if value in categories(log.item[row], int(log.time[row]))], dtype=np.int64)
            for value in dict.fromkeys(categories(item, time))
        ]

    def _categories(self, log: Log, entity: str) -> list[set[str]]:
        """Of each row of a log, the values that its item had in the entity's column at the event's time."""
        column = entity.removeprefix("item.")
        return [
            set(as_list(self.past.items.at(item, int(time)).get(column)))
            for item, time in zip(log.item, log.time, strict=True)
        ]

    @property
    def _crosses(self) -> list[str]:
        return [entity for entity in self.options.entities if "*" in entity]

    def _statistics(self, entity: str, log: Log, groups: list[Rows], clock: Clock) -> dict[str, float | None]:
        """All statistics of an entity; several groups are pooled: an event counts once in each that it belongs to."""
        known = [log.known(rows, clock) for rows in groups]
        past = np.concatenate([NO_ROWS, *known])
        values: dict[str, float | None] = {}
        for statistic in self.options.statistics:
            for window in windows_of(statistic, self.options):
                forever = window == LIFETIME or statistic.kind == "decayed"
                start = FIRST if forever else clock.as_of - parse_duration(window)
                name = statistic_name(entity, statistic.name, statistic.kind, window)
                if not len(past):
                    values[name] = None
                elif statistic.kind == "distinct":
                    ids = log.user if statistic.distinct_of == "user_id" else log.item
                    inside = [log.since(rows, start) for rows in known]
                    hits = [log.acted(rows, statistic.actions, statistic.min_weight).tolist() for rows in inside]
                    values[name] = float(sum(len({ids[row] for row in rows}) for rows in hits))
                else:
                    values[name] = self._value(statistic, log, log.since(past, start), clock)
        return values

    def _value(self, statistic: StatisticOptions, log: Log, inside: Rows, clock: Clock) -> float | None:
        """One statistic of the events inside its window; the entity has history."""
        hits = log.acted(inside, statistic.actions, statistic.min_weight)
        if statistic.kind == "count":
            return float(len(hits))
        if statistic.kind == "decayed":
            half_life = parse_duration(str(statistic.half_life))
            return math.fsum(0.5 ** ((clock.as_of - int(time)) / half_life) for time in log.time[hits])
        if statistic.kind == "sum":
            return _total(log, hits)
        if statistic.kind == "days_since":
            return (clock.as_of - int(log.time[hits].max())) / US_PER_DAY if len(hits) else None
        strength = statistic.prior_strength
        if statistic.kind == "rate":
            above, below = float(len(hits)), float(len(log.acted(inside, statistic.of_actions)))
        else:
            above, below = _total(log, hits), float(len(hits))
        if below + strength == 0:
            return None
        prior = self.fitted.priors[f"{statistic.name}_{statistic.kind}"]
        return (above + strength * prior) / (below + strength)

    def _latest(self, rows: Rows, clock: Clock) -> Rows:
        """The user's latest positives known at the clock, latest first, ties by item, then by arrival."""
        log = self.past.user_log
        known = positives(log, log.known(rows, clock), self.config.labels).tolist()
        order = sorted(known, key=lambda r: (-int(log.time[r]), log.item[r], int(log.available[r])))
        return np.array(order[: self.options.recent_length], dtype=np.int64)

    def _bags(self, rows: Rows, clock: Clock) -> dict[str, list[str] | None]:
        """Values of the user's latest positives, latest first, each item's content as of its event."""
        log, latest = self.past.user_log, self._latest(rows, clock).tolist()
        bags: dict[str, list[str] | None] = {}
        for column in self.options.recent:
            versions = [(log.item[r], self.past.items.at(log.item[r], int(log.time[r]))) for r in latest]
            values = [v for item, content in versions for v in as_list({**content, "item_id": item}.get(column))]
            bags[f"user_recent_{column}"] = values if latest else None
        return bags


def positives(log: Log, rows: Rows, labels: LabelOptions) -> Rows:
    """Those of `rows` that say yes: a positive action and, by the threshold rule, of at least that weight."""
    return log.acted(rows, labels.positive_actions, labels.threshold if labels.rule == "threshold" else None)


def _total(log: Log, rows: Rows) -> float:
    """Sum of weights, each rounded to a whole multiple of 2^-20 as the definition says."""
    return math.fsum(np.rint(log.weight[rows] * WEIGHT_UNITS) / WEIGHT_UNITS)
