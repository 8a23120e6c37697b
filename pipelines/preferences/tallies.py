"""Which integers a configuration's statistics are made of, and what is made of them. [spark]

A tally is a sum or a latest time over the events of a key that a query sees; statistics that differ only in their
arithmetic share tallies, and tallies of several keys can be pooled. How they are swept is left to `windows`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.config import PreferenceOptions, StatisticOptions, parse_duration
from pipelines.errors import ConfigError, InputError
from pipelines.features import statistic_names, windows_of
from pipelines.preferences.windows import DECAY_SCALE
from schemas.preferences import LIFETIME, US_PER_DAY

WEIGHT_SCALE = 2**20
"""Weights are summed as whole multiples of 1 / WEIGHT_SCALE (about a millionth), so that order never matters."""
MAX_WEIGHT = 2**42
"""The absolute weights of a log may add up to this: the sum over one key then fits an int64. (Pooled over several
categories it may not; Spark then stops with an overflow, it never wraps around.)"""
_MAX_WINDOW_US = 2**61
"""73,000 years: longer windows are no different, and times keep clear of int64's ends."""
_MAX_CHOICES = 62


class Choice(NamedTuple):
    """Which events count: of these actions (None: any) and of at least this weight (None: any)."""

    actions: tuple[str, ...] | None
    min_weight: float | None

    @property
    def condition(self) -> Column:
        """The choice as a condition on INTERACTIONS columns."""
        allowed = F.lit(True) if self.actions is None else F.col("action").isin(*self.actions)
        return allowed if self.min_weight is None else allowed & (F.col("weight") >= self.min_weight)


EVERY = Choice(None, None)
"""All events."""


def window_us(window: str) -> int | None:
    """Length of a window in microseconds, None for the lifetime."""
    return None if window == LIFETIME else min(parse_duration(window), _MAX_WINDOW_US)


class Sum(NamedTuple):
    """Events of a choice, counted or their weights summed, over a window."""

    choice: Choice
    of: Literal["events", "weights"]
    window: str


class Distinct(NamedTuple):
    """Different ids among the events of a choice, over a window."""

    choice: Choice
    of: Literal["user_id", "item_id"]
    window: str


class Decay(NamedTuple):
    """Events of a choice, each counting half as much after every half-life."""

    choice: Choice
    half_life: str


@dataclass(frozen=True)
class Tallies:
    """What has to be swept: a column `sum_i`, `distinct_i`, `decay_i` or `last_i` for each of them, int64.

    Every column is null for a key without any event in sight; a `last_i` also without one of its choice. All but the
    last can be pooled by adding them up; decays are whole multiples of 1 / DECAY_SCALE for that.
    """

    sums: tuple[Sum, ...]
    distincts: tuple[Distinct, ...]
    decays: tuple[Decay, ...]
    lasts: tuple[Choice, ...]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Distinct choices, in order."""
        chosen = [
            *(total.choice for total in self.sums),
            *(distinct.choice for distinct in self.distincts),
            *(decay.choice for decay in self.decays),
            *self.lasts,
        ]
        return tuple(dict.fromkeys(chosen))

    @property
    def sum_names(self) -> list[str]:
        """Columns that are pooled by addition: of `sums`, `distincts` and `decays`, in order."""
        named = {"sum": self.sums, "distinct": self.distincts, "decay": self.decays}
        return [f"{name}_{i}" for name, tallied in named.items() for i in range(len(tallied))]

    @property
    def last_names(self) -> list[str]:
        """Columns of `lasts`, in order."""
        return [f"last_{i}" for i in range(len(self.lasts))]

    @property
    def weighed(self) -> bool:
        """Whether any sum is of weights."""
        return any(total.of == "weights" for total in self.sums)

    def sum_of(self, choice: Choice, of: Literal["events", "weights"], window: str) -> Column:
        """The column of a sum, as float64 in the unit of its statistic."""
        column = F.col(f"sum_{self.sums.index(Sum(choice, of, window))}").cast("double")
        return column / float(WEIGHT_SCALE) if of == "weights" else column

    def distinct_of(self, distinct: Distinct) -> Column:
        """The column of a number of different ids, as float64."""
        return F.col(f"distinct_{self.distincts.index(distinct)}").cast("double")

    def decay_of(self, decay: Decay) -> Column:
        """The column of a decayed count, as float64."""
        return F.col(f"decay_{self.decays.index(decay)}").cast("double") / F.lit(DECAY_SCALE)

    def last_of(self, choice: Choice) -> Column:
        """The column of a choice's largest event_time."""
        return F.col(f"last_{self.lasts.index(choice)}")


def tallies(options: PreferenceOptions) -> Tallies:
    """The distinct tallies of all statistics. Raises ConfigError where they choose events in too many ways."""
    sums: list[Sum] = []
    distincts: list[Distinct] = []
    decays: list[Decay] = []
    lasts: list[Choice] = []
    for statistic in options.statistics:
        chosen, base = numerator(statistic), denominator(statistic)
        if statistic.kind == "days_since":
            lasts.append(chosen)
            continue
        for window in windows_of(statistic, options):
            if statistic.kind == "distinct":
                distincts.append(Distinct(chosen, statistic.distinct_of, window))
            if statistic.kind == "decayed":
                decays.append(Decay(chosen, window))
            if statistic.kind in ("sum", "mean"):
                sums.append(Sum(chosen, "weights", window))
            if statistic.kind in ("count", "mean", "rate"):
                sums.append(Sum(chosen, "events", window))
            if statistic.kind == "rate":
                sums.append(Sum(base, "events", window))
    found = Tallies(
        tuple(dict.fromkeys(sums)),
        tuple(dict.fromkeys(distincts)),
        tuple(dict.fromkeys(decays)),
        tuple(dict.fromkeys(lasts)),
    )
    if len(found.choices) > _MAX_CHOICES:
        raise ConfigError(
            f"statistics may choose events in at most {_MAX_CHOICES} ways, got {len(found.choices)}; "
            "let more of preferences.statistics share actions, of_actions and min_weight"
        )
    return found


def numerator(statistic: StatisticOptions) -> Choice:
    """The events that a statistic counts."""
    return Choice(statistic.actions, statistic.min_weight)


def denominator(statistic: StatisticOptions) -> Choice:
    """The events that a rate is a share of."""
    return Choice(statistic.of_actions, None)


def choice_bits(choices: tuple[Choice, ...]) -> Column:
    """Which choices an event belongs to: bit i for choice i."""
    bits = F.lit(0).cast("long")
    for i, choice in enumerate(choices):
        bits = bits.bitwiseOR(F.when(choice.condition, F.lit(1 << i).cast("long")).otherwise(F.lit(0).cast("long")))
    return bits


def fixed_weight() -> Column:
    """`weight` in whole multiples of 1 / WEIGHT_SCALE, half to even, int64."""
    return F.rint(F.col("weight") * float(WEIGHT_SCALE)).cast("long")


def check_weights(interactions: DataFrame, options: PreferenceOptions) -> None:
    """Raises InputError where weights are summed and are too large to be summed exactly."""
    if not any(statistic.kind in ("sum", "mean") for statistic in options.statistics):
        return
    total = interactions.agg(F.sum(F.abs("weight"))).collect()[0][0] or 0.0
    if total > MAX_WEIGHT:
        raise InputError(
            f"absolute weights must add up to at most {MAX_WEIGHT:.3g} to be summed exactly, got {total:.3g}; "
            "set quality.weight_range, or give weights in a larger unit"
        )


def smoothed(total: Column, n: Column, strength: float, prior: float) -> Column:
    """(total + s·prior) / (n + s); null where that is 0 / 0."""
    return F.when(n + strength > 0, (total + strength * prior) / (n + strength))


def statistic_columns(
    found: Tallies, entity: str, options: PreferenceOptions, priors: Mapping[str, float], as_of: str
) -> list[Column]:
    """The statistics, named as `features.statistic_names` has them, float64, of columns of tallies and `as_of`'s."""
    columns = []
    for statistic in options.statistics:
        chosen, strength = numerator(statistic), statistic.prior_strength
        for window in windows_of(statistic, options):
            match statistic.kind:
                case "count":
                    value = found.sum_of(chosen, "events", window)
                case "sum":
                    value = found.sum_of(chosen, "weights", window)
                case "mean":
                    total, n = found.sum_of(chosen, "weights", window), found.sum_of(chosen, "events", window)
                    value = smoothed(total, n, strength, priors[f"{statistic.name}_mean"])
                case "rate":
                    total = found.sum_of(chosen, "events", window)
                    n = found.sum_of(denominator(statistic), "events", window)
                    value = smoothed(total, n, strength, priors[f"{statistic.name}_rate"])
                case "distinct":
                    value = found.distinct_of(Distinct(chosen, statistic.distinct_of, window))
                case "decayed":
                    value = found.decay_of(Decay(chosen, window))
                case "days_since":
                    value = (F.col(as_of) - found.last_of(chosen)) / float(US_PER_DAY)
            columns.append(value)
    return [column.alias(name) for column, name in zip(columns, statistic_names(entity, options), strict=True)]
