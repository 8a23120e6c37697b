"""The gate on datasets made by hand: challenger and champion are measured on the same examples, now."""

import pytest

import jobs.decided as decision
import jobs.promote_model as job
from jobs.evaluate_model import JOB as EVALUATE
from jobs.launch import execute
from pipelines.config import parse_config
from pipelines.errors import PromotionError, WorkspaceError
from pipelines.tracking.promotion import Verdict
from pipelines.tracking.registered import Registered
from tests.jobs.conftest import publish


@pytest.fixture
def crowned(workspace, config, knowing, monkeypatch) -> list[str]:
    """Versions that became champion; version 2, of the workspace, was evaluated and knows the answer."""
    made: list[str] = []
    monkeypatch.setattr(job.Scorer, "load", lambda folder: knowing())
    monkeypatch.setattr(job, "connect", lambda config, root: None)
    monkeypatch.setattr(job, "log_evaluation", lambda *told: None)
    monkeypatch.setattr(decision, "crown", lambda client, name, version: made.append(version))
    monkeypatch.setattr(job, "rolled_back", lambda client, name, version: "")
    monkeypatch.setattr(decision, "keep_verdicts", lambda *told: None)
    monkeypatch.setattr(job, "judge_features", lambda audit: Verdict("features_as_served", True, ""))
    monkeypatch.setattr(job, "check_served", lambda *told: Verdict("scores_as_trained", True, ""))
    monkeypatch.setattr(job, "aliased", lambda client, name, alias: Registered("tiny", "1", "passed"))
    execute(EVALUATE, config, workspace, None)
    return made


def test_a_champion_that_is_worse_on_the_same_examples_is_replaced_and_by_how_much_is_told(
    crowned, workspace, config, knowing, monkeypatch
) -> None:
    monkeypatch.setattr(Registered, "load", lambda version: knowing(turned=True))
    facts = execute(job.JOB, config, workspace, None).dataset.manifest.facts
    assert crowned == ["2"]
    assert facts["champion"]["version"] == "1"
    assert facts["champion"]["differences"]["all"]["recall@1"]["value"] == 1.0
    (kept,) = (check["detail"] for check in facts["checks"] if check["check"] == "keeps_champion_level")
    assert "version 1, has 0.5000 on the same examples" in kept  # place 3 of 3: 1 / log2(4)


def test_a_challenger_that_is_worse_is_refused_whatever_the_champion_was_when_it_was_evaluated(
    crowned, workspace, config, knowing, monkeypatch
) -> None:
    monkeypatch.setattr(Registered, "load", lambda version: knowing())
    monkeypatch.setattr(job.Scorer, "load", lambda folder: knowing(turned=True))
    execute(EVALUATE, config, workspace, None, force=True)
    with pytest.raises(
        PromotionError, match=r"version 1, has 1\.0000 on the same examples.*paired difference -0\.5000"
    ):
        execute(job.JOB, config, workspace, None)
    assert crowned == []


def test_a_champion_that_cannot_read_today_s_examples_is_named_with_the_remedy(
    crowned, workspace, config, knowing, monkeypatch
) -> None:
    old = type("Old", (knowing,), {"columns": lambda self, side: {"item_gone_count_7d": "float64"}})
    monkeypatch.setattr(Registered, "load", lambda version: old())
    with pytest.raises(WorkspaceError, match=r"the champion, models:/tiny/1, must find .* item_gone_count_7d.*alias"):
        execute(job.JOB, config, workspace, None)


def test_a_test_period_without_a_positive_promotes_nobody_and_says_why(
    crowned, make_world, config, knowing, monkeypatch
) -> None:
    monkeypatch.setattr(Registered, "load", lambda version: knowing())
    never = [("test", "u1", "i3", 250, 0), ("validation", "u1", "i3", 150, 1)]
    workspace = make_world(asked=never)
    execute(EVALUATE, config, workspace, None)
    with pytest.raises(PromotionError, match=r"must be measured, but no test example falls in that slice"):
        execute(job.JOB, config, workspace, None)
    assert crowned == []


def test_the_gate_s_metric_must_be_one_of_which_more_is_better(config) -> None:
    assert parse_config({**config.model_dump(), "promotion": {"metric": "user_auc"}}).promotion.metric == "user_auc"


def test_a_version_that_was_rolled_back_and_one_that_serves_otherwise_are_refused_together(
    crowned, workspace, config, knowing, monkeypatch
) -> None:
    monkeypatch.setattr(Registered, "load", lambda version: knowing())
    monkeypatch.setattr(job, "rolled_back", lambda client, name, version: "2025-02-01, to version 1")
    monkeypatch.setattr(job, "check_served", lambda *told: Verdict("scores_as_trained", False, "9 rows differ"))
    kept = []
    monkeypatch.setattr(decision, "keep_verdicts", lambda client, run_id, verdicts, rival: kept.extend(verdicts))
    with pytest.raises(
        PromotionError, match=r"2 was on 2025-02-01, to version 1; .*`thaw rollback --to 2 .*brings it back; 9 rows"
    ):
        execute(job.JOB, config, workspace, None)
    assert crowned == []
    assert [v.check for v in kept if not v.passed] == ["not_rolled_back", "scores_as_trained"]


def test_a_model_that_could_not_be_registered_yet_is_not_judged_and_says_what_registers_it(
    crowned, workspace, config, monkeypatch
) -> None:
    model = workspace.current("model")
    publish(workspace, "model", {}, facts=model.manifest.facts)
    execute(EVALUATE, config, workspace, None)
    with pytest.raises(WorkspaceError, match=r"`model` must be registered.*`thaw train_dropoutnet` again, which only"):
        execute(job.JOB, config, workspace, None)
