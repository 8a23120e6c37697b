"""The gate: what it compares, and that a refusal names its cause."""

import pytest

from pipelines.config import PromotionOptions
from pipelines.tracking.promotion import judge


def measured(ndcg, recall=0.5) -> dict:
    """The metrics of one split, in two slices, the second without an example."""
    return {
        "test": {
            "all": {"ndcg@10": {"value": ndcg}, "recall@10": {"value": recall}},
            "cold_both": {"ndcg@10": {"value": None}},
        }
    }


def verdicts(champion=None, baseline=0.2, **options) -> dict[str, tuple[bool, str]]:
    found = judge(PromotionOptions(**options), measured(0.3), {"popularity": measured(baseline)}, champion)
    return {verdict.check: (verdict.passed, verdict.detail) for verdict in found}


def test_a_first_model_needs_no_champion_to_beat() -> None:
    assert {name: passed for name, (passed, _) in verdicts().items()} == {"measured": True}


@pytest.mark.parametrize(("champion", "passed"), [(0.3, True), (0.306, True), (0.307, False)])
def test_a_challenger_may_lose_two_percent_against_the_champion_and_no_more(champion, passed) -> None:
    assert verdicts(champion=champion)["keeps_champion_level"][0] is passed


@pytest.mark.parametrize(("lift", "passed"), [(1.49, True), (1.51, False)])
def test_popularity_must_be_beaten_by_the_configured_lift(lift, passed) -> None:
    assert verdicts(min_lift_over_popularity=lift)["beats_popularity"][0] is passed


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
