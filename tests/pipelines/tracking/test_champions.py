"""Who was champion: the order that tags tell, the way back, and that it is the same each time."""

import datetime as dt

import mlflow
import pytest

from pipelines.config import parse_config
from pipelines.errors import TrackingError
from pipelines.tracking.champions import Crowning, crown, crownings_of, roll_back, rolled_back, succession
from pipelines.tracking.registered import aliased
from pipelines.tracking.runs import CHAMPION
from pipelines.tracking.store import connect, visit

RAW = {"name": "shop", "seed": 1, "labels": {"rule": "sampled", "positive_actions": ["click"]}}


def crownings(told: str) -> list[Crowning]:
    """`+2` is promoted, `-1` got the crown back; each from the one before it."""
    versions, start = told.split(), dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    hows = {"+": "promoted", "-": "rolled back"}
    before = [None, *(one[1:] for one in versions)]
    return [
        Crowning(start + dt.timedelta(days=day), one[1:], hows[one[0]], before[day]) for day, one in enumerate(versions)
    ]


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ("", ""),
        ("+1 +2", "1 2"),
        ("+1 +2 -1", "1"),
        ("+1 +2 +1", "1 2 1"),
        ("+1 +2 +3 -1", "1"),
        ("+1 +2 -1 +3", "1 3"),
        ("+1 +2 -1 +2", "1 2"),
    ],
)
def test_the_line_of_champions_leaves_out_who_was_rolled_back(told, line) -> None:
    assert succession(crownings(told)) == line.split()
    # Who was champion before anything was written down is known from its successor.
    assert succession(crownings(told)[1:])[-2:] == line.split()[-2:]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A registry of its own."""
    client = connect(parse_config(RAW), str(tmp_path_factory.mktemp("registry")))
    yield client
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def model(client, request, tmp_path) -> str:
    """A registered model of four versions."""
    name = request.node.name
    client.create_registered_model(name)
    for _ in range(4):
        client.create_model_version(name, source=str(tmp_path))
    return name


def champion(client, model) -> str:
    return aliased(client, model, CHAMPION).version


def test_a_rollback_goes_one_champion_back_and_the_next_one_further(client, model) -> None:
    for version in ("1", "2", "4"):
        crown(client, model, version)
        crown(client, model, version)  # a rerun of the same promotion is no second crowning
    assert roll_back(client, model) == ("4", "2")
    assert rolled_back(client, model, "4").endswith("UTC, to version 2")
    assert roll_back(client, model) == ("2", "1")
    with pytest.raises(TrackingError, match=r"a champion before version 1 of .*, none is known; name one: --to"):
        roll_back(client, model)
    crown(client, model, "3")
    assert roll_back(client, model) == ("3", "1")
    assert [(c.version, c.how, c.over) for c in crownings_of(client, model)][-2:] == [
        ("3", "promoted", "1"),
        ("1", "rolled back", "3"),
    ]


def test_a_version_that_was_champion_once_can_be_named_and_is_no_longer_marked(client, model) -> None:
    for version in ("1", "2", "4"):
        crown(client, model, version)
    assert roll_back(client, model, "1") == ("4", "1")
    assert all(rolled_back(client, model, version) for version in ("2", "4"))
    assert roll_back(client, model, "4") == ("1", "4")
    assert not rolled_back(client, model, "4") and not rolled_back(client, model, "1")
    assert roll_back(client, model, "4") == ("4", "4")
    assert roll_back(client, model) == ("4", "1")
    for version in ("3", "9", "x"):
        with pytest.raises(TrackingError, match=rf"--to must be a version .* once \(1, 2, 4\), got {version}; a gate"):
            roll_back(client, model, version)


def test_a_champion_made_by_other_means_goes_back_to_the_last_that_was_promoted(client, model) -> None:
    crown(client, model, "1")
    client.set_registered_model_alias(model, CHAMPION, "3")
    assert roll_back(client, model) == ("3", "1")
    client.set_registered_model_alias(model, CHAMPION, "3")
    crown(client, model, "4")  # nobody wrote down that 3 was champion: its successor does
    assert roll_back(client, model) == ("4", "3")


def test_versions_that_are_gone_are_passed_over(client, model) -> None:
    for version in ("1", "2", "4"):
        crown(client, model, version)
    client.delete_model_version(model, "2")
    assert roll_back(client, model) == ("4", "1")


def test_without_a_champion_or_a_store_there_is_one_message(client, model, tmp_path) -> None:
    for name in (model, "nothing"):
        with pytest.raises(TrackingError, match=f"needs a champion, {name} has none; `thaw promote_model` makes one"):
            roll_back(client, name)
    with pytest.raises(TrackingError, match=r"MLflow's store must be there, .*mlflow\.db is not; set tracking\.uri"):
        visit(parse_config(RAW), str(tmp_path))
    assert list(tmp_path.iterdir()) == []
