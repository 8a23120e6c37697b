"""Rules that every single row must keep, read off its own columns: clocks, provenance, splits, maturity.

One pass over the examples and one over the candidates. Whether the columns tell the truth is left to `oracle` and
`metamorphic`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config, parse_duration
from pipelines.examples.audit.report import Check
from pipelines.features import feature_set
from schemas.fitted import Cuts


@dataclass(frozen=True)
class Rule:
    """A condition that must hold, what it says, and the columns to show where it does not."""

    name: str
    holds: Column
    text: str
    show: tuple[str, ...]


def example_rules(config: Config, cuts: Cuts) -> list[Rule]:
    """What must hold in every example."""
    t, label_time, split = F.col("event_time"), F.col("label_time"), F.col("split")
    window = parse_duration(config.labels.label_window) if config.labels.rule == "impressions" else 0
    by_time = (
        F.when(t < cuts.validation_start, "train").when(t < cuts.test_start, "validation").otherwise(F.lit("test"))
    )
    used_from = F.when(split == "train", F.lit(cuts.validation_start)).when(
        split == "validation", F.lit(cuts.test_start)
    )
    if cuts.as_of is not None:
        used_from = used_from.otherwise(F.lit(cuts.as_of - 1))
    features = feature_set(config)
    past = [*features.user.statistic_names, *features.user.bags, *features.item.statistic_names]
    past += features.cross_names
    rules = [
        Rule("clock", _served(config, t), "as_of and known_by are the clock that was served at event_time", ()),
        Rule(
            "events before the clock",
            F.coalesce(F.col("max_event_time") < F.col("as_of"), F.lit(True)),
            "max_event_time < as_of",
            ("max_event_time", "as_of"),
        ),
        Rule(
            "events known at the clock",
            F.coalesce(F.col("max_available_time") <= F.col("known_by"), F.lit(True)),
            "max_available_time <= known_by",
            ("max_available_time", "known_by"),
        ),
        Rule("split", split == by_time, "split is that of event_time", ("event_time", "split")),
        Rule(
            "label closed",
            label_time >= t + F.lit(window),
            "label_time >= event_time + label_window",
            ("event_time", "label_time"),
        ),
        Rule(
            "label mature",
            F.coalesce(label_time <= used_from, F.lit(True)),
            "the label was known when its split was used",
            ("split", "label_time"),
        ),
    ]
    if past:
        accounted = F.col("max_event_time").isNotNull() | _all_null(past)
        rules.append(Rule("history accounted for", accounted, "no statistic or bag without a contributing event", ()))
    return rules


def candidate_rules(config: Config) -> list[Rule]:
    """What must hold in every evaluation candidate."""
    return [
        Rule("candidate clock", _is_clock(config), "as_of and known_by are a clock", ()),
        Rule(
            "candidate exists",
            (F.col("exists_from") <= F.col("in_effect_from")) & (F.col("in_effect_from") < F.col("in_effect_to")),
            "exists_from <= in_effect_from < in_effect_to",
            ("exists_from", "in_effect_from", "in_effect_to"),
        ),
    ]


def catalogue_rules(cuts: Cuts) -> list[Rule]:
    """What must hold besides in every item that training draws negatives from."""
    known_by = F.col("known_by")
    return [
        Rule(
            "catalogue in training",
            known_by < cuts.validation_start,
            "known_by < validation_start",
            ("as_of", "known_by"),
        ),
        Rule(
            "catalogue in effect",
            (F.col("in_effect_from") <= known_by) & (known_by < F.col("in_effect_to")),
            "in_effect_from <= known_by < in_effect_to",
            ("known_by", "in_effect_from", "in_effect_to"),
        ),
    ]


def check_rows(frame: DataFrame, rules: list[Rule], key: tuple[str, ...], what: str) -> list[Check]:
    """One check a rule, over all rows of `frame`. A rule that comes out null is broken."""
    broken = [~F.coalesce(rule.holds, F.lit(False)) for rule in rules]
    columns: list[Column] = [F.count("*").alias("rows")]
    for number, (rule, bad) in enumerate(zip(rules, broken, strict=True)):
        show = dict.fromkeys([*key, *(rule.show or ("event_time", "as_of", "known_by"))])
        row = F.struct(*[F.col(name) for name in show if name in frame.columns])
        columns += [F.count_if(bad).alias(f"n{number}"), F.min(F.when(bad, row)).alias(f"row{number}")]
    found = frame.agg(*columns).first()
    if found is None:
        raise AssertionError("an aggregate without keys has one row")
    checks = []
    for number, rule in enumerate(rules):
        first: Mapping[str, object] = found[f"row{number}"].asDict() if found[f"row{number}"] else {}
        values = ", ".join(f"{name}={value}" for name, value in first.items())
        detail = f"{rule.text}, broken by {what} {values}" if first else rule.text
        checks.append(Check(rule.name, "rows", found["rows"], found[f"n{number}"], detail))
    return checks


def _served(config: Config, t: Column) -> Column:
    """Whether the row's clock is the latest one served at t."""
    as_of, known_by = F.col("as_of"), F.col("known_by")
    if config.preferences.accuracy == "exact":
        return (as_of == t) & (known_by == t)
    served_from = as_of + F.lit(parse_duration(config.preferences.publish_delay))
    period = F.lit(parse_duration(config.preferences.period))
    return _is_clock(config) & (served_from <= t) & (t < served_from + period) & (known_by <= t)


def _is_clock(config: Config) -> Column:
    as_of, known_by = F.col("as_of"), F.col("known_by")
    if config.preferences.accuracy == "exact":
        return as_of == known_by
    landing, period = parse_duration(config.preferences.landing_delay), parse_duration(config.preferences.period)
    return (F.pmod(as_of, F.lit(period)) == 0) & (known_by == as_of + F.lit(landing))


def _all_null(names: list[str]) -> Column:
    condition = F.lit(True)
    for name in names:
        condition = condition & F.col(name).isNull()
    return condition
