"""Deliberate leaks in the real code, one at a time: the audit catches every one, and by the check that should.

Each is built, published and audited as a run would, with the leak in the second build too, by the half of the audit
that should catch it. The shop is tiny, and each build as small as its leak allows. A zone off by hours is in
`test_raw`, which has raw files.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pyspark.sql import functions as F

from pipelines.config import ContentOptions
from pipelines.content.fit import fit_encoder
from pipelines.errors import LeakageError
from pipelines.examples import build as build_module
from pipelines.examples import fit as fit_module
from pipelines.examples import labels as labels_module
from pipelines.examples import sides
from pipelines.examples.audit import audit as audit_module
from pipelines.examples.audit.audit import audit
from pipelines.examples.audit.encoder import check_encoder
from pipelines.examples.audit.report import AuditReport
from pipelines.examples.fit import fit
from pipelines.examples.tables import Tables
from pipelines.features import feature_set

DAY = 86_400_000_000
HOUR = DAY // 24
NEVER = 2**61
COUNT = {"name": "click", "kind": "count", "actions": ["click"]}
RATE = {"name": "click", "kind": "rate", "actions": ["click"], "of_actions": ["impression"]}
SMALL = {"entities": ["item"], "recent": [], "windows": ["lifetime"], "statistics": [COUNT]}
EXACT = {**SMALL, "accuracy": "exact"}
BAGS = {**SMALL, "recent": ["category"]}
TAGS = {**SMALL, "entities": ["item.tags"]}
SAMPLED = {"rule": "sampled", "negatives": 2}


@dataclass(frozen=True)
class Mutant:
    """A function of the code, what it becomes, and the check that must fail for it."""

    module: Any
    function: str
    leaky: Callable[[Callable[..., Any]], Callable[..., Any]]
    """The honest function -> the leaky one."""
    caught_by: str
    """Part of the name of a check that must fail."""
    preferences: dict[str, Any] = field(default_factory=lambda: SMALL)
    labels: dict[str, Any] = field(default_factory=dict)


def moved(**moves: int) -> Callable[[Any], Any]:
    """The function over rows whose time columns are moved, as a slip of the pen would."""

    def leaky(honest):
        def shifted(rows, *args, **kwargs):
            there = rows.withColumns({name: F.col(name) + move for name, move in moves.items()})
            back = {name: F.col(name) - move for name, move in moves.items()}
            return honest(there, *args, **kwargs).withColumns(back)

        return shifted

    return leaky


def instead(replacement: Callable[..., Any]) -> Callable[[Any], Any]:
    """Another function in the honest one's place."""
    return lambda honest: replacement


def given(change: Callable[..., tuple[Any, ...]]) -> Callable[[Any], Any]:
    """The honest function with its arguments changed."""
    return lambda honest: lambda *args, **kwargs: honest(*change(*args), **kwargs)


def clock_moved(as_of: int, known_by: int) -> Callable[[Any], Any]:
    def leaky(honest):
        def clock(time, options):
            start, known = honest(time + as_of, options)
            return start, known + known_by

        return clock

    return leaky


def whole_log(honest):
    """A lifetime that has not ended yet: the log's last word on each item."""

    def leaky(queries, events, *, key, **kwargs):
        (name,) = set(honest(queries, events, key=key, **kwargs).columns) - {*queries.columns, *PROVENANCE}
        clicks = events.where(F.col("action") == "click").groupBy(key).agg(F.count("*").cast("double").alias("all"))
        found = honest(queries, events, key=key, **kwargs).join(clicks, key, how="left")
        return found.withColumn(name, F.coalesce("all", name)).drop("all")

    return leaky


PROVENANCE = ("max_event_time", "max_available_time")


def content_of_today(honest):
    """What a bag holds is decided by today's content; what an example carries is honest."""

    def leaky(rows, versions, *, id, time, columns):
        if "valid_from" in columns:
            return honest(rows, versions, id=id, time=time, columns=columns)
        return moved(**{time: 400 * DAY})(honest)(rows, versions, id=id, time=time, columns=columns)

    return leaky


def latest_version(interactions, items, entity):
    """Every item with its last version, as if it had always been so."""
    column = entity.removeprefix("item.")
    last = items.groupBy("item_id").agg(F.max_by(column, "valid_from").alias(column))
    return interactions, last.withColumn("valid_from", F.lit(0).cast("bigint")), entity


def clicks_that_came_too_late(interactions, config):
    """Every click, whenever it arrived."""
    arrived = F.when(F.col("action") == "click", F.col("event_time")).otherwise(F.col("available_time"))
    return interactions.withColumn("available_time", arrived), config


def exists_early(items, exists):
    return items, exists.withColumn("exists_from", F.col("exists_from") - 3 * DAY)


def clocks_of_every_split(examples, config):
    return examples.withColumn("split", F.lit("train")), config


def split_by_row(time, cuts):
    place = F.pmod(F.xxhash64(time), F.lit(10))
    return F.when(place < 6, "train").when(place < 8, "validation").otherwise("test")


def prior_of_everything(events, before, options):
    return events, NEVER, options


def label_window_too_long(interactions, config):
    return interactions, config.model_copy(update={"labels": config.labels.model_copy(update={"label_window": "4h"})})


def candidates_of_the_whole_log(candidates, interactions, config):
    return candidates.withColumn("known_by", F.lit(NEVER)).withColumn("as_of", F.lit(NEVER)), interactions, config


def counted_at_the_end(honest):
    """Past positives of a candidate, with the statistics of the end."""

    def leaky(candidates, interactions, config):
        counts = honest(*candidates_of_the_whole_log(candidates, interactions, config)).select(
            "item_id", F.col("past_positives").alias("all")
        )
        found = honest(candidates, interactions, config).join(counts.distinct(), "item_id", how="left")
        return found.withColumn("past_positives", F.col("all")).drop("all")

    return leaky


def drawn_by_row(seed, purpose, *columns):
    """A share of the rows as they happen to lie."""
    return F.rand(seed)


def catalogue_of_later(clocks, versions, config):
    """Items that came after the clock."""
    return clocks, versions.withColumn("in_effect_from", F.col("in_effect_from") - 2 * DAY), config


MUTANTS = {
    "closed right edge": Mutant(sides, "attach_statistics", moved(as_of=1), "recomputed: item features"),
    "availability ignored": Mutant(
        sides, "attach_statistics", moved(known_by=400 * DAY), "another future: example features"
    ),
    "own event counted": Mutant(
        sides, "attach_statistics", moved(as_of=1, known_by=1), "recomputed: item features", preferences=EXACT
    ),
    "own label counted": Mutant(
        sides, "attach_statistics", moved(as_of=HOUR, known_by=HOUR), "recomputed: item features", preferences=EXACT
    ),
    "content one version too new": Mutant(
        sides, "attach_content", moved(event_time=3 * DAY), "another future: example features"
    ),
    "snapshot served before its publish delay": Mutant(
        build_module, "clock_columns", clock_moved(2 * HOUR, 0), "recomputed: clock"
    ),
    "landing delay ignored": Mutant(build_module, "clock_columns", clock_moved(0, 23 * HOUR), "recomputed: clock"),
    "priors fitted on everything": Mutant(
        fit_module, "fit_priors", given(prior_of_everything), "priors", preferences={**SMALL, "statistics": [RATE]}
    ),
    "negatives from the future catalogue": Mutant(
        build_module, "with_negatives", moved(event_time=400 * DAY), "recomputed: label", labels=SAMPLED
    ),
    "tie order: a sample by the place of rows": Mutant(
        build_module, "keyed_share", instead(drawn_by_row), "another future: example rows", labels={"max_examples": 150}
    ),
    "lifetime statistic from the whole log": Mutant(
        sides, "attach_statistics", whole_log, "another future: example features"
    ),
    "cold flag from the test period": Mutant(
        sides, "in_training_period", instead(lambda cuts: F.lit(True)), "recomputed: cold flags"
    ),
    "immature labels kept": Mutant(
        build_module, "is_mature", instead(lambda time, label_time, cuts: F.lit(True)), "label mature"
    ),
    "split by row, not by time": Mutant(build_module, "split_of", instead(split_by_row), "split"),
    "label from clicks that arrived after it closed": Mutant(
        build_module, "labelled_events", given(clicks_that_came_too_late), "recomputed: label"
    ),
    "label window too long": Mutant(build_module, "labelled_events", given(label_window_too_long), "recomputed: label"),
    "label closed too early": Mutant(labels_module, "arrival_bound_us", instead(lambda config: 0), "recomputed: label"),
    "bag with future content": Mutant(
        sides, "attach_content", content_of_today, "another future: example features", preferences=BAGS
    ),
    "category statistics by today's content": Mutant(
        sides, "keyed_events", given(latest_version), "another future: example features", preferences=TAGS
    ),
    "candidate that did not exist yet": Mutant(
        build_module, "versions_in_effect", given(exists_early), "recomputed candidates: existence"
    ),
    "catalogue of what came later": Mutant(build_module, "catalogue_at", given(catalogue_of_later), "candidate exists"),
    "catalogue of held-out moments": Mutant(
        build_module, "training_clocks", given(clocks_of_every_split), "catalogue in training"
    ),
    "candidates with the statistics of the end": Mutant(
        build_module, "attach_past_positives", counted_at_the_end, "another future: candidate features"
    ),
}


@pytest.fixture
def failures(building, tables, make_config, publish):
    """Audits what the code makes of the shop, as it is now: name -> detail of each failed check."""

    def check(
        preferences: dict[str, Any], labels: dict[str, Any], shop: Tables = tables, **sections: Any
    ) -> dict[str, str]:
        config = make_config(preferences=preferences, labels=labels, **sections)
        fitted = fit(shop.interactions, config)
        with building() as again:
            report = audit(publish(again(shop, config, fitted)), shop, config, fitted, again)
        if not report.passed:
            with pytest.raises(LeakageError) as caught:
                report.require()
            assert caught.value.exit_code == 3
        return {check.name: check.detail for check in report.checks if not check.passed}

    return check


@pytest.mark.parametrize("name", MUTANTS)
def test_a_leak_in_the_real_code_is_caught(name, failures, monkeypatch) -> None:
    mutant = MUTANTS[name]
    if "another future" in mutant.caught_by:
        monkeypatch.setattr(audit_module, "_look", lambda *_: AuditReport(()))
    else:
        monkeypatch.setattr(audit_module, "check_future", lambda *_: [])
    honest = getattr(mutant.module, mutant.function)
    monkeypatch.setattr(mutant.module, mutant.function, mutant.leaky(honest))
    # Only its own leak needs a catalogue to be built.
    broken = failures(mutant.preferences, mutant.labels, catalogue={"rows": 12 if "catalogue of" in name else 0})
    assert any(mutant.caught_by in check for check in broken), broken


def test_a_feature_that_states_the_label_is_caught_by_the_probe_alone(world, spark, failures) -> None:
    """Every item is priced anew at each of its examples, by somebody who knew how they would end."""
    told = world.built.examples.groupBy("item_id", F.col("event_time").alias("valid_from")).agg(
        F.max("label").cast("double").alias("price")
    )
    nothing = [F.lit(None).cast(c.dataType).alias(c.name) for c in world.tables.items.schema]
    priced = [F.col(c) if c in told.columns else n for c, n in zip(world.tables.items.columns, nothing, strict=True)]
    shop = replace(world.tables, items=told.select(*priced).cache())
    # Not 1: of two users who see an item at one moment, one may click.
    broken = failures(SMALL, {}, shop, audit={"max_feature_auc": 0.9})
    assert list(broken) == ["features that state the label"]
    assert "at most 0.9, got item_price (AUC 0.9" in broken["features that state the label"]


def test_an_encoder_fitted_on_everything_is_caught(world, spark) -> None:
    features, options = feature_set(world.config), ContentOptions(weighting="idf", normaliser="quantile")
    examples = world.built.examples
    honest = fit_encoder(examples.where(F.col("split") == "train"), features, options)
    everything = fit_encoder(examples, features, options)

    def failed(**changes) -> list[str]:
        state = honest.model_copy(update=changes)
        checks = check_encoder(spark, examples.inputFiles(), state, features, options)
        assert all(check.checked for check in checks)
        return [check.name for check in checks if not check.passed]

    assert failed() == []
    assert failed(**dict(everything)) == ["vocabularies", "normalisers", "weights of ids"]
    assert failed(normalisers=everything.normalisers) == ["normalisers"]
    assert failed(idf=everything.idf) == ["weights of ids"]
    seen = "item_size_sum_lifetime"
    knots = {"knots": everything.normalisers[seen].knots}
    assert failed(normalisers={**honest.normalisers, seen: honest.normalisers[seen].model_copy(update=knots)}) == [
        "normalisers"
    ]
