"""The gate: what it compares, that a refusal names its cause, and what a real registry has to say to it."""

import os
import re
import subprocess
import sys

import mlflow
import pytest

from pipelines.config import PromotionOptions, parse_config
from pipelines.errors import ConfigError, TrackingError
from pipelines.tracking.champions import crown
from pipelines.tracking.promotion import Rival, judge, judge_audit, judge_features
from pipelines.tracking.registered import aliased, registered
from pipelines.tracking.runs import AUDIT_TAG, CHALLENGER, CHAMPION, log_evaluation
from pipelines.tracking.store import connect
from schemas.manifest import Manifest

RAW = {"name": "shop", "seed": 1, "labels": {"rule": "sampled", "positive_actions": ["click"]}}


def measured(ndcg, recall=0.5) -> dict:
    """The metrics of one split, in two slices, the second without an example."""
    return {
        "test": {
            "all": {"ndcg@10": {"value": ndcg}, "recall@10": {"value": recall}},
            "cold_both": {"ndcg@10": {"value": None}},
        }
    }


def met(level) -> Rival:
    """Version 4, at this level on the challenger's examples."""
    difference = {"value": 0.3 - level, "low": 0.29 - level, "high": 0.31 - level, "n": 9}
    return Rival("4", measured(level)["test"], {"all": {"ndcg@10": difference}})


def verdicts(champion=None, baseline=0.2, against_champion=None, **options) -> dict[str, tuple[bool, str]]:
    options["against_champion"] = against_champion or {}
    found = judge(PromotionOptions(**options), measured(0.3), {"popularity": measured(baseline)}, champion)
    return {verdict.check: (verdict.passed, verdict.detail) for verdict in found}


def test_what_was_trained_on_unaudited_examples_is_never_promoted() -> None:
    assert judge_audit("passed").passed
    refused = judge_audit("unaudited")
    assert not refused.passed
    assert "must have passed the leakage audit, got unaudited; run `thaw run` without training.allow" in refused.detail


def test_a_first_model_needs_no_champion_to_beat() -> None:
    assert {name: passed for name, (passed, _) in verdicts().items()} == {"measured": True}


@pytest.mark.parametrize(("champion", "passed"), [(0.3, True), (0.306, True), (0.307, False)])
def test_a_challenger_may_lose_two_percent_against_the_champion_and_no_more(champion, passed) -> None:
    assert verdicts(champion=met(champion))["keeps_champion_level"][0] is passed


def test_a_refusal_names_the_champion_s_level_on_the_same_examples_and_the_paired_difference() -> None:
    passed, detail = verdicts(champion=met(0.4))["keeps_champion_level"]
    assert not passed
    assert "at least 0.3920 (the champion, version 4, has 0.4000 on the same examples, less 2%), got 0.3000" in detail
    assert detail.endswith("paired difference -0.1000 [-0.1100, -0.0900]")


def met_on(slice_, low, value, high, level=0.4) -> Rival:
    """A champion like the challenger as a whole, with this paired difference on one slice."""
    same = {"value": 0.0, "low": 0.0, "high": 0.0, "n": 9}
    metrics = {**measured(0.3)["test"], slice_: {"ndcg@10": {"value": level}}}
    there = {"value": value, "low": low, "high": high, "n": 9}
    return Rival("4", metrics, {"all": {"ndcg@10": same}, slice_: {"ndcg@10": there}})


def held_against(rival, slice_="cold_item", **asked) -> tuple[bool, str]:
    options = PromotionOptions(**({"against_champion": {slice_: asked}} if asked else {}))
    mine = {"test": {**measured(0.3)["test"], "cold_item": {}, "warm": {}}}
    found = {v.check: (v.passed, v.detail) for v in judge(options, mine, {}, rival)}
    return found[f"champion_{slice_}"]


@pytest.mark.parametrize(
    ("interval", "high", "value", "low"),
    [
        ((-0.2, -0.1, -0.01), False, False, False),
        ((-0.2, -0.1, 0.01), True, False, False),
        ((-0.1, 0.1, 0.2), True, True, False),
        ((0.0, 0.1, 0.2), True, True, True),
    ],
)
def test_on_new_items_the_chosen_end_of_the_paired_interval_decides(interval, high, value, low) -> None:
    rival = met_on("cold_item", *interval)
    assert held_against(rival)[0] is high  # the default: who is shown to be worse is refused
    for bound, passed in (("high", high), ("value", value), ("low", low)):
        assert held_against(rival, bound=bound)[0] is passed


def test_on_warm_items_two_percent_may_be_lost_and_a_refusal_says_what_decided() -> None:
    assert held_against(met_on("warm", -0.02, -0.01, -0.007), "warm")[0]
    passed, detail = held_against(met_on("warm", -0.03, -0.02, -0.009), "warm")
    assert not passed
    assert "must not fall by more than 0.0080 below the champion's (version 4, 0.4000 on the same examples" in detail
    assert "paired difference -0.0200 [-0.0300, -0.0090] over 9 users, the interval's upper end decides" in detail


def test_too_few_users_for_an_interval_leave_the_value_to_decide() -> None:
    assert not held_against(met_on("cold_item", None, -0.1, None))[0]
    assert held_against(met_on("cold_item", None, 0.0, None))[0]


def test_a_slice_without_a_test_example_is_not_compared_and_an_unknown_one_is_refused() -> None:
    passed, detail = held_against(met_on("warm", 0, 0, 0))
    assert passed and "not compared: no test example falls in that slice" in detail
    passed, detail = verdicts(champion=met(0.3), against_champion={"lukewarm": {}})["measured"]
    assert not passed and "promotion.slice must be one that is measured (all, cold_both), got lukewarm" in detail


@pytest.mark.parametrize(
    ("report", "passed", "says"),
    [
        ({"checks": [{"name": "x", "kind": "served", "checked": 9, "failed": 0, "passed": True}]}, True, "0 differ"),
        ({"checks": [{"name": "x", "kind": "served", "checked": 9, "failed": 2, "passed": False}]}, False, "2 differ"),
        ({"checks": [], "skipped": [{"name": "x", "kind": "served", "why": "exact"}]}, True, "x: exact"),
        ({"checks": [{"name": "x", "kind": "rows", "checked": 9, "failed": 0, "passed": True}]}, False, "not looked"),
        (None, False, "not looked at; run `thaw audit_leakage`"),
    ],
)
def test_features_must_have_been_held_against_what_serving_had(report, passed, says) -> None:
    audit = None if report is None else Manifest(dataset="audit", tables={}, seed=1, facts={"audit": report})
    found = judge_features(audit)
    assert found.passed is passed and says in found.detail


def test_a_metric_of_which_less_is_better_gates_nothing() -> None:
    with pytest.raises(ConfigError, match=r"more is better, got calibration_error"):
        parse_config({**RAW, "promotion": {"metric": "calibration_error"}})


@pytest.mark.parametrize(("lift", "passed"), [(1.49, True), (1.51, False)])
def test_popularity_must_be_beaten_by_the_configured_lift(lift, passed) -> None:
    assert verdicts(min_lift_over_popularity=lift)["beats_popularity"][0] is passed


def test_nothing_is_no_lift_over_nothing() -> None:
    asked = PromotionOptions(min_lift_over_popularity=2, against_champion={})
    nothing = judge(asked, measured(0.0), {"popularity": measured(0.0)}, None)
    assert [verdict.passed for verdict in nothing] == [True, False]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metric": "ngcd@10"}, "promotion.metric must be one that is measured (ndcg@10, recall@10), got ngcd@10"),
        ({"slice": "warmish"}, "promotion.slice must be one that is measured (all, cold_both), got warmish"),
        ({"slice": "cold_both"}, "no test example falls in that slice"),
    ],
)
def test_a_refusal_for_want_of_a_measurement_names_its_cause(options, says) -> None:
    passed, detail = verdicts(**options)["measured"]
    assert not passed and says in detail


@pytest.fixture
def client(tmp_path):
    """A registry of its own, with two versions of one model, both measured."""
    client = connect(parse_config(RAW), str(tmp_path))
    client.create_registered_model("shop")
    for ndcg in (0.3, 0.2):
        run = client.create_run(client.get_experiment_by_name("thaw").experiment_id)
        client.create_model_version("shop", source=str(tmp_path), run_id=run.info.run_id)
        log_evaluation(client, run.info.run_id, measured(ndcg))
    yield client
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def test_an_address_is_of_a_version_or_of_the_one_that_an_alias_stands_for(client) -> None:
    crown(client, "shop", "1")
    client.set_model_version_tag("shop", "1", AUDIT_TAG, "passed")
    found = registered(client, "models:/shop@champion")
    assert (found.uri, found.audit) == ("models:/shop/1", "passed")
    assert registered(client, "models:/shop/2").audit == "unaudited"  # nothing says otherwise


def test_an_address_of_nothing_is_one_message(client) -> None:
    for address, says in (
        ("models:/shop@queen", "models:/shop@queen must be a registered version, shop has no alias queen"),
        ("models:/shop/9", "MLflow must be reachable and hold what is asked of it"),
        ("shop", "must be models:/NAME/VERSION or models:/NAME@ALIAS, got 'shop'"),
    ):
        with pytest.raises(TrackingError, match=re.escape(says)):
            registered(client, address)


def test_a_crowned_challenger_is_no_challenger_any_more(client) -> None:
    client.set_registered_model_alias("shop", CHALLENGER, "2")
    crown(client, "shop", "1")
    assert aliased(client, "shop", CHALLENGER).version == "2"
    crown(client, "shop", "2")
    assert aliased(client, "shop", CHAMPION).version == "2"
    assert aliased(client, "shop", CHALLENGER) is None


def test_no_such_model_is_an_absence(client) -> None:
    assert aliased(client, "nothing", CHAMPION) is None


def test_what_the_store_does_not_hold_is_one_message(client) -> None:
    with pytest.raises(
        TrackingError, match=r"Run with id=gone not found.*check tracking\.uri.*train_classifier --force"
    ):
        log_evaluation(client, "gone", measured(0.1))
    with pytest.raises(TrackingError, match="MLflow must be reachable"):
        crown(client, "shop", "9")


def test_a_server_that_does_not_answer_is_no_absence_and_its_password_stays_out(tmp_path) -> None:
    # In a process of its own: what MLflow is pointed at holds for the whole of one.
    code = f"""
from pipelines.config import parse_config
from pipelines.errors import ConfigError, TrackingError
from pipelines.tracking.store import connect
from schemas.manifest import Manifest
try:
    connect(parse_config({RAW!r} | {{"tracking": {{"uri": "http://me:hush@127.0.0.1:9"}}}}), {str(tmp_path)!r})
except TrackingError as error:
    print(error)
"""
    environment = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MLflow must be reachable")
    assert "hush" not in done.stdout
