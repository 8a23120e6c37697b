"""The job on datasets made by hand, with a scorer that knows the answer: what is read, joined and published."""

from types import SimpleNamespace

import pytest

from jobs.evaluate_model import JOB, Scorer
from jobs.launch import execute
from pipelines.config import parse_config
from pipelines.errors import ConfigError


def test_the_job_publishes_metrics_of_the_model_and_of_every_baseline_the_data_allows(
    workspace, config, knowing, monkeypatch
) -> None:
    monkeypatch.setattr(Scorer, "load", lambda folder: knowing())
    facts = execute(JOB, config, workspace, None).dataset.manifest.facts
    assert set(facts["metrics"]) == {"validation", "test"}
    # Odd user 1 knows i1 already, so i3 is the only odd item left; even user 2 likewise with i4.
    assert facts["metrics"]["test"]["all"]["recall@1"] == {"value": 1.0, "low": None, "high": None, "n": 2}
    assert facts["metrics"]["test"]["all"]["auc"]["value"] == 1.0
    assert facts["metrics"]["test"]["cold_both"]["ndcg@10"] == {"value": None, "low": None, "high": None, "n": 0}
    # No truth lies beside this data; genre alone tells odd from even.
    assert set(facts["baselines"]) == {"content_only", "popularity", "random", "content_knn", "item_knn"}
    assert facts["baselines"]["content_knn"]["test"]["all"]["recall@1"]["value"] == 1.0
    assert facts["baselines"]["content_only"]["test"]["all"]["auc"]["value"] == 0.5
    # u1 has 1 of 2 right and no other; all its odd items score 2, all even ones 0.
    assert facts["reliability"]["test"]["model"] == [
        {"predicted": 0.5, "observed": 0.0, "n": 2},
        {"predicted": 0.880797, "observed": 1.0, "n": 2},
    ]
    assert facts["metrics"]["test"]["all"]["calibration_error"]["value"] == 0.309601
    assert facts["evaluated"]["test"]["ranked"] == 2
    by_chance = facts["baselines"]["random"]["test"]["all"]["recall@1"]["value"]
    assert facts["differences"]["random"]["test"]["all"]["recall@1"]["value"] == 1 - by_chance


def test_the_same_inputs_give_the_same_digest(workspace, config, knowing, monkeypatch) -> None:
    monkeypatch.setattr(Scorer, "load", lambda folder: knowing())
    digests = {execute(JOB, config, workspace, None, force=True).dataset.manifest.content_digest for _ in range(2)}
    assert len(digests) == 1


def test_a_registered_model_is_ranked_beside_and_an_alias_that_moved_is_evaluated_anew(
    workspace, config, knowing, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(Scorer, "load", lambda folder: knowing())
    champion = SimpleNamespace(uri="models:/tiny/1", load=lambda: knowing(turned=True))
    monkeypatch.setattr("pipelines.tracking.registered.lookup", lambda config, root, address: champion)
    asked = parse_config({**config.model_dump(), "evaluation": {"ks": [1], "against": "models:/tiny@champion"}})
    first = execute(JOB, asked, workspace, None)
    facts = first.dataset.manifest.facts
    assert facts["differences"]["against"]["test"]["all"]["recall@1"] == {
        "value": 1.0,
        "low": None,
        "high": None,
        "n": 2,
    }
    assert facts["differences"]["against"]["test"]["all"]["auc"]["value"] == 1.0
    assert first.dataset.manifest.notes["against"] == "models:/tiny/1"
    assert "model minus against, test, all: recall@1 +1.0000, ndcg@10 " in capsys.readouterr().err
    assert first.dataset.manifest.config["evaluation"]["against"] == "models:/tiny/1"
    assert execute(JOB, asked, workspace, None).reused
    champion.uri = "models:/tiny/2"  # the evaluated model itself: it was promoted
    assert execute(JOB, asked, workspace, None).reused
    champion.uri = "models:/tiny/3"
    assert not execute(JOB, asked, workspace, None).reused


@pytest.mark.parametrize("address", ["tiny", "models:/tiny", "models:/a/b/c", "models:/tiny@a/b"])
def test_what_is_no_address_of_a_registered_model_is_refused(config, address) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.against"):
        parse_config({**config.model_dump(), "evaluation": {"against": address}})


def test_data_without_a_positive_is_evaluated_to_nothing_and_says_so(make_world, config, knowing, monkeypatch) -> None:
    monkeypatch.setattr(Scorer, "load", lambda folder: knowing())
    never = [(split, user, item, t, 0) for split, t in (("validation", 150), ("test", 250))
             for user, item in (("u1", "i3"), ("u2", "i4"))]  # fmt: skip
    facts = execute(JOB, config, make_world(clicks=[], asked=never), None).dataset.manifest.facts
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    assert facts["metrics"]["test"]["all"]["ndcg@10"] == nothing
    assert facts["metrics"]["test"]["all"]["auc"] == {**nothing, "n": 2}  # two users, no positive
    assert facts["evaluated"]["test"]["ranked"] == 0
    assert facts["differences"]["item_knn"]["test"]["all"]["recall@1"] == nothing


@pytest.mark.parametrize("only", ["validation", "test"])
def test_a_split_without_examples_is_measured_as_nothing_beside_the_other(
    make_world, config, knowing, monkeypatch, only
) -> None:
    monkeypatch.setattr(Scorer, "load", lambda folder: knowing())
    asked = [(only, "u1", "i3", 150, 1), (only, "u2", "i1", 150, 0)]
    facts = execute(JOB, config, make_world(asked=asked), None).dataset.manifest.facts
    other = "test" if only == "validation" else "validation"
    assert facts["metrics"][only]["all"]["recall@1"]["value"] == 1.0
    assert facts["metrics"][other]["all"]["recall@1"]["value"] is None
    assert facts["reliability"][other]["model"] == []


def test_a_user_who_has_seen_everything_is_left_out_and_counted(make_world, config, knowing, monkeypatch) -> None:
    monkeypatch.setattr(Scorer, "load", lambda folder: knowing())
    everything = [("u1", f"i{n}", 10) for n in range(1, 5)]
    facts = execute(JOB, config, make_world(clicks=everything), None).dataset.manifest.facts
    assert facts["evaluated"]["test"]["already_seen"] == 1
    assert facts["metrics"]["test"]["all"]["recall@1"]["n"] == 1  # u2 alone


def test_a_list_longer_than_the_catalogue_recalls_everything(workspace, config, knowing, monkeypatch) -> None:
    monkeypatch.setattr(Scorer, "load", lambda folder: knowing(turned=True))
    long = parse_config({**config.model_dump(), "evaluation": {"ks": [1000]}})
    facts = execute(JOB, long, workspace, None).dataset.manifest.facts
    assert {facts["metrics"]["test"]["all"][f"{name}@1000"]["value"] for name in ("recall", "hit_rate")} == {1.0}
    assert facts["metrics"]["test"]["all"]["ndcg@1000"]["value"] == facts["metrics"]["test"]["all"]["ndcg@10"]["value"]
