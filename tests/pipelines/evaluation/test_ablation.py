"""Variants of a configuration, and what they are worth beside the default."""

import numpy as np
import pytest

from pipelines.config import parse_config
from pipelines.errors import ConfigError
from pipelines.evaluation.ablation import compared, from_bytes, rows_of, to_bytes, told, variants_of
from pipelines.evaluation.ablation_view import ablation_view
from pipelines.evaluation.intervals import Sample

RAW = {"name": "x", "seed": 1, "labels": {"rule": "impressions", "positive_actions": ["click"]}}


def config(**ablation):
    return parse_config({**RAW, "training": {"epochs": 3}, "ablation": ablation})


def samples(value, *, spread=(-0.02, -0.01, 0.0, 0.01, 0.02), users=9):
    """One metric in two slices, resampled as `spread` around its value."""
    return {
        part: {m: Sample(value, value + np.array(spread), users) for m in ("recall@10", "ndcg@10", "auc")}
        for part in ("all", "cold_item")
    }


def test_each_value_and_each_named_set_is_a_variant_and_changes_nothing_else() -> None:
    found = variants_of(
        config(
            vary={"model.preference_dropout": [0.5, 1], "training.losses.in_batch": ["all"]},
            variants={"softmax alone": {"training.losses.pointwise": 0, "training.losses.softmax": 2}},
        )
    )
    names = ["default", "model.preference_dropout=0.5", "model.preference_dropout=1", "training.losses.in_batch=all"]
    assert [variant.name for variant in found] == [*names, "softmax alone"]
    default = found[0].config
    assert [variant.config == default for variant in found] == [True, True, False, False, False]
    alone = found[-1].config.training
    assert (alone.epochs, alone.losses.pointwise, alone.losses.softmax, alone.losses.in_batch) == (3, 0, 2, "mined")


@pytest.mark.parametrize(
    ("ablation", "message"),
    [
        ({}, r"must have something to vary, got nothing; add --vary"),
        (
            {"vary": {"content.ngrams": [2]}},
            r"`training` or `classifier`, because .* got 'content.ngrams'; .*`thaw run` once",
        ),
        (
            {"vary": {"model.preference_dropout": [2]}},
            r"variant `model.preference_dropout=2` must be .*less than or equal",
        ),
        ({"vary": {"model.preference_dropot": [0]}}, r"did you mean `preference_dropout`"),
        (
            {"vary": {"model.preference_dropout": [0], "classifier.width": [0.5]}},
            r"options of `classifier` alone or of the towers alone, got .*run `thaw ablate` once for each",
        ),
        ({"vary": {"classifier.tricks.blur_pol": [True]}}, r"did you mean `blur_pool`"),
        ({"variants": {"default": {"training.epochs": 1}}}, r"names of their own, got `default`"),
        (
            {"variants": {"go on": {"training.start_from": "models:/x/1"}}},
            r"from scratch, .* models:/x/1; leave it out",
        ),
        ({"vary": {"training.losses.catalogue_negatives": [64]}}, r"catalogue.rows must be above 0"),
    ],
)
def test_a_variant_that_cannot_be_is_refused_before_anything_is_trained(ablation, message) -> None:
    with pytest.raises(ConfigError, match=message):
        variants_of(config(**ablation))


def test_seeds_are_averaged_and_a_difference_is_paired_with_the_default() -> None:
    wavy = (0.3, -0.3, 0.2, -0.2, 0.0)
    trials = {
        "default": [samples(0.20, spread=wavy), samples(0.30, spread=wavy)],
        "other": [samples(0.24, spread=wavy), samples(0.36, spread=wavy)],
    }
    found = compared(trials)
    value = found["other"]["metrics"]["all"]["recall@10"]
    assert (value["value"], value["n"], value["sd"]) == (0.30, 9, pytest.approx(0.084853))
    # The users that move one move the other alike: their difference is certain, though each value is not.
    assert value["high"] - value["low"] > 0.5
    difference = found["other"]["differences"]["cold_item"]["ndcg@10"]
    assert (difference["value"], difference["low"], difference["high"]) == (0.05, 0.05, 0.05)
    assert difference["sd"] == pytest.approx(0.014142)
    assert found["default"]["differences"]["all"]["auc"]["value"] == 0


def test_of_one_seed_there_is_no_spread_and_of_what_was_not_measured_no_value() -> None:
    nothing = samples(np.nan, spread=[np.nan] * 5, users=0)
    found = compared({"default": [nothing]})["default"]["metrics"]["all"]["auc"]
    assert found == {"value": None, "low": None, "high": None, "n": 0, "sd": None}


def test_samples_are_read_as_they_were_written() -> None:
    written = {**samples(0.3), "cold_user": {"auc": Sample(np.nan, np.full(5, np.nan), 0)}}
    read = from_bytes(to_bytes(written), rows_of(written))
    assert rows_of(read) == rows_of(written)
    np.testing.assert_array_equal(read["all"]["auc"].resampled, written["all"]["auc"].resampled)
    assert to_bytes(read) == to_bytes(written)


def results(**variants):
    """Name -> (changes, value): as published."""
    trials = {name: [samples(value), samples(value)] for name, (_, value) in variants.items()}
    rows = [
        {"name": name, "changes": changes, "is_default": not changes or changes.get("model.x") == 0.5} | row
        for (name, (changes, _)), row in zip(variants.items(), compared(trials).values(), strict=True)
    ]
    return {"split": "validation", "seeds": [1, 2], "train_rows": 100, "epochs": 3, "variants": rows}


GIVEN = {"default": ({}, 0.2)} | {f"model.x={x}": ({"model.x": x}, 0.2 + abs(x - 0.5) / 10) for x in (1, 0.5, 0)}


def test_numbers_become_a_curve_through_the_default_and_variants_stand_beside_it() -> None:
    view = ablation_view(
        results(**GIVEN, **{"model.flag=true": ({"model.flag": True}, 0.1), "both": ({"a.b": 1}, 0.3)})
    )
    assert list(view["curves"]) == ["model.x"]
    spoken = view["curves"]["model.x"][0]["svg"]
    assert "0: 0.250" in spoken and spoken.index("0.5: 0.200") < spoken.index("1: 0.250")
    assert [row["name"] for row in view["shown"]] == ["default", "model.x=1", "model.x=0", "model.flag=true", "both"]
    chart = view["differences"][0]["svg"]
    assert "flag=true -0.100" in chart and "both 0.100" in chart and "0.5" not in chart


def test_a_person_is_told_how_far_each_variant_is_from_the_default() -> None:
    head, *lines = told(results(**GIVEN))
    assert head.split("  ")[0] == "validation, 2 seeds"
    assert [line.split()[0] for line in lines] == ["default", "model.x=1", "model.x=0"]
    assert "0.2500 +0.0500 [+0.0500, +0.0500]" in lines[1] and "+" not in lines[0]


def test_an_interval_over_seeds_too_is_wider_by_what_few_seeds_leave_open() -> None:
    seeds = [samples(value, spread=(-0.03, -0.01, 0.0, 0.01, 0.03)) for value in (0.1, 0.2, 0.3)]
    of_users, of_both = (
        compared({"default": seeds, "same": seeds}, of_seeds=flag)["default"]["metrics"]["all"]["ndcg@10"]
        for flag in (False, True)
    )
    # Student's t of three seeds is 4.3027; the deviation is 0.1.
    half = np.hypot(0.2 - of_users["low"], 4.302653 * 0.1 / 3**0.5)
    assert of_both["low"] == pytest.approx(0.2 - half, abs=1e-5)
    assert of_both["high"] == pytest.approx(0.2 + half, abs=1e-5)
    # The same seeds are no further apart for it: differences are paired by seed.
    same = compared({"default": seeds, "same": seeds}, of_seeds=True)["same"]["differences"]["all"]["ndcg@10"]
    assert (same["low"], same["high"]) == (0.0, 0.0)
    one = compared({"default": seeds[:1]}, of_seeds=True)["default"]["metrics"]["all"]["ndcg@10"]
    assert one["low"] == compared({"default": seeds[:1]})["default"]["metrics"]["all"]["ndcg@10"]["low"]
