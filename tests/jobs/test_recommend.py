"""Which version recommends."""

import pytest

import jobs.recommend as job
from pipelines.errors import PromotionError, WorkspaceError
from pipelines.tracking.registered import Registered


@pytest.fixture
def registry(monkeypatch) -> dict[str, Registered]:
    """Alias -> version."""
    found: dict[str, Registered] = {}
    monkeypatch.setattr(job, "aliased", lambda client, name, alias: found.get(alias))
    return found


def test_the_champion_recommends_and_where_there_is_none_the_challenger(registry) -> None:
    registry["challenger"] = Registered("shop", "2", "passed")
    assert job._version(None, "shop", allow_unaudited=False) == ("challenger", registry["challenger"])
    registry["champion"] = Registered("shop", "1", "passed")
    assert job._version(None, "shop", allow_unaudited=False) == ("champion", registry["champion"])


def test_an_unaudited_version_recommends_in_a_trial_alone(registry) -> None:
    registry["challenger"] = Registered("shop", "2", "unaudited")
    with pytest.raises(PromotionError, match=r"version 2 of shop \(challenger\) is unaudited; run `thaw run` without"):
        job._version(None, "shop", allow_unaudited=False)
    assert job._version(None, "shop", allow_unaudited=True)[1].version == "2"


def test_without_a_registered_model_it_says_what_to_run(registry) -> None:
    with pytest.raises(WorkspaceError, match=r"shop has none; run `thaw train_dropoutnet` first"):
        job._version(None, "shop", allow_unaudited=False)
