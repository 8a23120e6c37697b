"""Each rule on the rows' own columns is broken on purpose once, and named with its row."""

from pyspark.sql import functions as F

from pipelines.examples.audit.provenance import candidate_rules, check_rows, example_rules
from pipelines.examples.audit.report import AuditReport


def checks(frame, world):
    return check_rows(frame, example_rules(world.config, world.fitted.cuts), ("example_id",), "example")


def test_honest_rows_keep_every_rule(world) -> None:
    found = checks(world.built.examples, world)
    found += check_rows(world.built.candidates, candidate_rules(world.config), ("item_id",), "candidate")
    assert AuditReport(tuple(found)).passed
    assert all(check.checked > 0 for check in found)


def test_each_rule_is_broken_alone_in_one_row(world) -> None:
    one = F.col("example_id") == world.built.examples.agg(F.min("example_id")).collect()[0][0]
    changes = {
        "clock": {"known_by": F.col("known_by") + 1},
        "events before the clock": {"max_event_time": F.col("as_of")},
        "events known at the clock": {"max_available_time": F.col("known_by") + 1},
        "split": {"split": F.lit("other")},
        "label closed": {"label_time": F.col("event_time")},
        "label mature": {"split": F.lit("train"), "label_time": F.lit(2**61)},
        "history accounted for": {"max_event_time": F.lit(None), "user_click_count_1d": F.lit(0.0)},
    }
    for name, changed in changes.items():
        columns = {column: F.when(one, value).otherwise(F.col(column)) for column, value in changed.items()}
        broken = {
            check.name: check for check in checks(world.built.examples.withColumns(columns), world) if check.failed
        }
        assert name in broken, name
        assert broken[name].failed == 1 and "example_id=" in broken[name].detail


def test_a_test_label_that_closed_after_the_day_it_is_read_as_of_is_found(world) -> None:
    test = world.built.examples.where("split = 'test'")
    last = test.agg(F.max("label_time")).collect()[0][0]
    for as_of, broken in ((last + 1, []), (last, ["label mature"])):
        cuts = world.fitted.cuts.model_copy(update={"as_of": as_of})
        found = check_rows(test, example_rules(world.config, cuts), ("example_id",), "example")
        assert [check.name for check in found if not check.passed] == broken


def test_a_candidate_that_does_not_exist_yet_is_found(world) -> None:
    early = world.built.candidates.withColumn("exists_from", F.col("in_effect_from") + 1)
    found = check_rows(early, candidate_rules(world.config), ("item_id",), "candidate")
    assert [check.name for check in found if not check.passed] == ["candidate exists"]
