"""What a search tries next."""

import pytest

from pipelines.config import AugmentOptions, SearchOptions, TrickOptions, changed, parse_config
from pipelines.search.choice import Chooser
from pipelines.search.space import KINDS, applied, kind_of, spaces

CONFIG = {"name": "x", "seed": 1, "images": {"sources": [{"path": "x"}], "height": 28, "width": 28}}
NETWORKS = (*KINDS["convolutional"], "linear", "two_layer")


def config(**search):
    return parse_config({**CONFIG, "search": {"families": NETWORKS, "trials": 1, **search}})


def chooser(seed=1, **search):
    chosen = config(**search)
    return Chooser(chosen.search, spaces(chosen, 28, 8), 8, seed)


def tried(chooser, count, worth):
    """Families and options of so many proposals, each worth `worth(proposal)`."""
    found = []
    for _ in range(count):
        proposal = chooser.next()
        accuracy = worth(proposal)
        proposal.report(1, accuracy)
        proposal.finish(accuracy)
        found.append((proposal.family, proposal.changes))
    return found


def wide(proposal) -> float:
    return proposal.changes.get("width", 0.1) / 2 + proposal.changes["schedule.learning_rate"]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_every_family_is_tried_as_usual_before_any_is_again_then_kinds_take_turns(sampler) -> None:
    found = tried(chooser(sampler=sampler), 17, wide)
    families = [family for family, _ in found]
    assert families[:7] == list(NETWORKS)
    assert {kind_of(family) for family in families[8::2]} == {"convolutional"}
    assert {kind_of(family) for family in families[7::2]} == {"flat"}
    space = spaces(config(), 28, 8)
    assert all(changes.items() >= space[family].usual.items() for family, changes in found[:7])


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_equal_seeds_and_results_propose_equal_options_and_another_seed_others(sampler) -> None:
    assert tried(chooser(sampler=sampler), 14, wide) == tried(chooser(sampler=sampler), 14, wide)
    assert tried(chooser(sampler=sampler), 14, wide) != tried(chooser(2, sampler=sampler), 14, wide)


def test_what_was_better_is_tried_more_often() -> None:
    found = tried(chooser(families=["mobilenet_v2"]), 40, lambda p: float(p.changes["width"] == 1.0))
    assert sum(changes["width"] == 1.0 for _, changes in found[-20:]) >= 14


def test_all_that_is_proposed_is_a_valid_configuration_of_what_images_need() -> None:
    given = {"family": "plain", "augment": {"flip": True, "mixup": 0.2}, "tricks": {"blur_pool": True}}
    base = changed(config(), {"classifier": given})
    for family, changes in tried(chooser(sampler="random"), 40, wide):
        options = applied(base, changes).classifier
        # Moving flat pixels about only confuses.
        assert (
            (options.augment == AugmentOptions()) == (options.tricks == TrickOptions()) == (kind_of(family) == "flat")
        )
        assert options.family == family and options.epochs == 8
        assert options.stem == ("small" if kind_of(family) == "convolutional" else "large")
    assert spaces(config(), 64, 8)["mobilenet_v2"].fixed["stem"] == "large"


def test_images_of_a_few_pixels_are_not_moved_out_of_sight() -> None:
    tiny = spaces(config(), 4, 8)["plain"]
    assert tiny.fixed["augment.crop"] == 0
    assert "augment.crop" not in tiny.usual.keys() | tiny.varies.keys()
    assert "augment.crop" in spaces(config(), 5, 8)["plain"].varies


def test_a_trial_is_given_up_by_its_own_family_alone_and_not_in_its_first_epochs() -> None:
    some = chooser(families=["linear", "shufflenet_v2"])
    for _ in range(6):
        proposal = some.next()
        accuracy = {"linear": 0.9, "shufflenet_v2": 0.5}[proposal.family]
        for epoch in range(1, 9):
            proposal.report(epoch, accuracy)
            # Below linear's 0.9 from the start on, and no worse than its own family.
            assert not proposal.hopeless()
        proposal.finish(accuracy)
    worse = some.next()
    hopeless = []
    for epoch in range(1, 4):
        worse.report(epoch, 0.1)
        hopeless.append(worse.hopeless())
    assert hopeless == [False, True, True]
    worse.finish(None)


def test_nothing_is_given_up_without_a_pruner() -> None:
    some = chooser(families=["linear"], pruner="none")
    tried(some, 5, lambda proposal: 0.9)
    last = some.next()
    last.report(8, 0.0)
    assert not last.hopeless()
    assert SearchOptions(pruner="hyperband").pruner == "hyperband"
