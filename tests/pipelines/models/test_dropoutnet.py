"""What a model promises: missing is a state of its own, sides without one part work, equal seeds make equal weights."""

import keras
import numpy as np
import pytest

from pipelines.config import ModelOptions
from pipelines.errors import ConfigError
from pipelines.models.blocks import _read_singles
from pipelines.models.dropoutnet import build_dropoutnet, empty_rows
from schemas.fitted import InputSpec

OPTIONS = ModelOptions(
    embedding_dim=4, content_units=(6,), preference_units=(5,), tower_units=(8, 3), preference_dropout=0.5
)


def ids(name, side, part, table, size=9, length=3) -> InputSpec:
    return InputSpec(name=name, side=side, part=part, kind="ids", length=length, table=table, table_size=size)


def floats(name, side, part, length=2, entity="") -> InputSpec:
    return InputSpec(name=name, side=side, part=part, kind="floats", length=length, entity=entity)


ONE_TABLE_TWICE = (("user_a", "tags"), ("user_b", "kinds"), ("user_c", "tags"))
BOTH = (
    ids("user_interests", "user", "content", "user_interests"),
    floats("user_statistics", "user", "preference"),
    ids("user_recent_tags", "user", "preference", "tags"),
    ids("item_tags", "item", "content", "tags"),
    floats("item_numbers", "item", "content"),
    floats("item_statistics", "item", "preference"),
)
BEHAVIOUR_ONLY = (
    floats("user_statistics", "user", "preference"),
    ids("user_recent_item_id", "user", "preference", "item_id"),
    floats("item_statistics", "item", "preference"),
)
CONTENT_ONLY = (
    floats("user_numbers", "user", "content"),
    ids("item_tags", "item", "content", "tags"),
)
EVERY_SHAPE = pytest.mark.parametrize(
    "specs", [BOTH, BEHAVIOUR_ONLY, CONTENT_ONLY], ids=["both", "behaviour", "content"]
)


def rows_of(specs, rows=6, seed=0):
    draw = np.random.default_rng(seed)
    return {
        spec.name: draw.integers(0, spec.table_size, (rows, spec.length))
        if spec.kind == "ids"
        else draw.normal(size=(rows, spec.length)).astype("float32")
        for spec in specs
    }


def embeddings(model, inputs, **flags):
    return {side: np.asarray(model.tower(side)(inputs, **flags)) for side in ("user", "item")}


@EVERY_SHAPE
def test_embeddings_have_length_one_and_the_score_is_scale_times_cosine_plus_bias(specs) -> None:
    model, inputs = build_dropoutnet(specs, OPTIONS, 1), rows_of(specs)
    model.bias.assign(-1.5)
    out = {name: np.asarray(value) for name, value in model(inputs).items()}
    np.testing.assert_allclose(np.linalg.norm(out["user"], axis=1), 1, rtol=1e-5)
    cosine = (out["user"] * out["item"]).sum(axis=1)
    np.testing.assert_allclose(out["score"], float(model.scale) * cosine - 1.5, rtol=1e-4, atol=1e-5)


@EVERY_SHAPE
def test_rows_of_which_nothing_is_known_are_finite(specs) -> None:
    for value in embeddings(build_dropoutnet(specs, OPTIONS, 1), empty_rows(specs, 3)).values():
        assert value.shape == (3, 3)
        assert np.isfinite(value).all()


@EVERY_SHAPE
def test_rows_do_not_see_each_other(specs) -> None:
    model, inputs, order = build_dropoutnet(specs, OPTIONS, 1), rows_of(specs), np.array([3, 0, 5, 1, 4, 2])
    whole, mixed = embeddings(model, inputs), embeddings(model, {name: v[order] for name, v in inputs.items()})
    for side in whole:
        np.testing.assert_allclose(mixed[side], whole[side][order], rtol=1e-5, atol=1e-6)


@EVERY_SHAPE
def test_equal_seeds_make_equal_weights_and_others_do_not(specs) -> None:
    first, same, other = (build_dropoutnet(specs, OPTIONS, seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_preference_that_is_missing_is_not_one_of_zeros() -> None:
    model, zeros = build_dropoutnet(BOTH, OPTIONS, 1), rows_of(BOTH)
    for name in ("user_statistics", "item_statistics"):
        zeros[name] = np.zeros_like(zeros[name])
    zeros["user_recent_tags"][:] = 0
    known, missing = embeddings(model, zeros), embeddings(model, zeros, missing_preference=True)
    for side in known:
        assert np.abs(known[side] - missing[side]).max() > 1e-3


@pytest.mark.parametrize("stands_for_it", ["learned", "zero"])
def test_what_is_missing_reads_as_a_vector_of_its_own_or_as_zeros(stands_for_it) -> None:
    model = build_dropoutnet(BOTH, OPTIONS.model_copy(update={"missing": stands_for_it}), 1)
    for tower in (model.user_tower, model.item_tower):
        for dense in tower.preferences[0].fields.mlp.denses:
            for weight in dense.weights:  # so that any behaviour is read as zeros
                weight.assign(np.zeros(weight.shape))
    known, missing = embeddings(model, rows_of(BOTH)), embeddings(model, rows_of(BOTH), missing_preference=True)
    for side in known:
        assert np.allclose(known[side], missing[side], atol=1e-6) == (stands_for_it == "zero")


def test_truly_missing_asked_for_and_dropped_are_one_state() -> None:
    always = build_dropoutnet(BOTH, OPTIONS.model_copy(update={"preference_dropout": 1.0}), 1)
    inputs = rows_of(BOTH)
    nothing = inputs | {spec.name: empty_rows(BOTH, 6)[spec.name] for spec in BOTH if spec.part == "preference"}
    asked = embeddings(always, inputs, missing_preference=True)
    # What is always dropped in training is not read afterwards: its layers are as they were built.
    for other in (embeddings(always, nothing), embeddings(always, inputs, training=True), embeddings(always, inputs)):
        for side in asked:
            np.testing.assert_array_equal(other[side], asked[side])


def test_dropout_takes_rows_in_the_configured_share_and_only_in_training() -> None:
    model, inputs = build_dropoutnet(BOTH, OPTIONS, 1), rows_of(BOTH, rows=400)
    known, missing = embeddings(model, inputs), embeddings(model, inputs, missing_preference=True)
    trained = embeddings(model, inputs, training=True)
    for side in known:
        as_missing = np.isclose(trained[side], missing[side], atol=1e-6).all(axis=1)
        as_known = np.isclose(trained[side], known[side], atol=1e-6).all(axis=1)
        assert (as_missing ^ as_known).all()
        assert 0.4 < as_missing.mean() < 0.6


def test_what_is_dropped_of_an_item_may_stay_known_of_its_categories() -> None:
    specs = (*CONTENT_ONLY, floats("item_statistics", "item", "preference", entity="item"),
             floats("item_tags_statistics", "item", "preference", entity="item.tags"))  # fmt: skip
    model, inputs = build_dropoutnet(specs, OPTIONS, 1), rows_of(specs, rows=400)
    empty = empty_rows(specs, 400)
    patterns = [(), ("item_statistics",), ("item_tags_statistics",), ("item_statistics", "item_tags_statistics")]
    states = [embeddings(model, inputs | {name: empty[name] for name in names})["item"] for names in patterns]
    trained = embeddings(model, inputs, training=True)["item"]
    shares = [np.isclose(trained, state, atol=1e-6).all(axis=1).mean() for state in states]
    assert abs(sum(shares) - 1) < 1e-9
    assert all(0.15 < share < 0.35 for share in shares)
    np.testing.assert_allclose(states[3], embeddings(model, inputs, missing_preference=True)["item"], atol=1e-6)


def test_a_known_value_beside_missing_ones_still_counts() -> None:
    model, inputs = build_dropoutnet(BOTH, OPTIONS, 1), empty_rows(BOTH, 2)
    inputs["user_statistics"][1, 0] = 3.0
    user = embeddings(model, inputs)["user"]
    assert np.abs(user[0] - user[1]).max() > 1e-3


def test_a_bag_is_the_mean_of_its_ids_wherever_its_padding_stands() -> None:
    model, inputs = build_dropoutnet(BOTH, OPTIONS, 1), empty_rows(BOTH, 4)
    inputs["item_tags"][:] = [[4, 0, 0], [0, 4, 0], [4, 4, 4], [4, 5, 0]]
    item = embeddings(model, inputs)["item"]
    np.testing.assert_allclose(item[1], item[0], rtol=1e-6)
    np.testing.assert_allclose(item[2], item[0], rtol=1e-5)
    assert np.abs(item[3] - item[0]).max() > 1e-3


def test_a_bag_and_the_content_it_comes_from_share_one_embedding() -> None:
    model = build_dropoutnet(BOTH, OPTIONS, 1)
    assert sorted(weight.path for weight in model.weights if weight.path.endswith("/rows")) == [
        "tags/rows",
        "user_interests/rows",
    ]
    assert len({weight.path for weight in model.weights}) == len(model.weights)


def test_content_that_reads_raw_ids_is_refused() -> None:
    with pytest.raises(ConfigError, match="raw ids"):
        build_dropoutnet((*BOTH, ids("item_self", "item", "content", "item_id")), OPTIONS, 1)


def test_inputs_that_cannot_make_a_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="the user side has none"):
        build_dropoutnet([spec for spec in BOTH if spec.side == "item"], OPTIONS, 1)
    with pytest.raises(ConfigError, match="agree on its size"):
        build_dropoutnet((*BOTH, ids("item_more", "item", "content", "tags", size=10)), OPTIONS, 1)
    with pytest.raises(ConfigError, match="tower_units"):
        build_dropoutnet(BOTH, OPTIONS.model_copy(update={"tower_units": ()}), 1)


def changed(**options):
    return build_dropoutnet(BOTH, OPTIONS.model_copy(update=options), 1)


@pytest.mark.on_jax
def test_dropout_changes_from_epoch_to_epoch_within_a_compiled_step() -> None:
    model, inputs = changed(preference_dropout=0.0, preference_dropout_end=1.0), rows_of(BOTH, rows=200)
    known, missing = embeddings(model, inputs), embeddings(model, inputs, missing_preference=True)

    class Trained(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def call(self, x):
            return self.inner.tower("user")(x, training=True)

    step, shares = Trained(), []
    step.compile()
    step.predict(inputs, verbose=0)
    for progress in (0.0, 0.5, 1.0):
        model.at(progress)
        trained = step.predict(inputs, verbose=0, batch_size=200)
        shares.append(np.isclose(trained, missing["user"], atol=1e-5).all(axis=1).mean())
        if progress == 0:
            np.testing.assert_allclose(trained, known["user"], atol=1e-5)
    assert shares[0] < 0.01 and 0.3 < shares[1] < 0.7 and shares[2] == 1


def test_a_side_is_dropped_whole_and_a_field_alone() -> None:
    specs = (*BOTH, floats("item_tags_statistics", "item", "preference", entity="item.tags"))
    sided = OPTIONS.model_copy(update={"preference_dropout": 0.0, "side_dropout": 0.5})
    model, inputs = build_dropoutnet(specs, sided, 1), rows_of(specs, rows=400)
    known, missing = embeddings(model, inputs), embeddings(model, inputs, missing_preference=True)
    trained = embeddings(model, inputs, training=True)
    for side in known:
        as_missing = np.isclose(trained[side], missing[side], atol=1e-6).all(axis=1)
        assert (as_missing ^ np.isclose(trained[side], known[side], atol=1e-6).all(axis=1)).all()
        assert 0.4 < as_missing.mean() < 0.6
    fielded = changed(preference_dropout=0.0, field_dropout=0.5)
    inputs = {name: value[:400] for name, value in inputs.items()}
    empty = empty_rows(BOTH, 400)
    patterns = [(), ("user_statistics",), ("user_recent_tags",), ("user_statistics", "user_recent_tags")]
    states = [inputs | {name: empty[name] for name in names} for names in patterns]
    wanted = [embeddings(fielded, state)["user"] for state in states]
    trained = embeddings(fielded, inputs, training=True)["user"]
    is_one = np.array([np.isclose(trained, state, atol=1e-6).all(axis=1) for state in wanted])
    assert is_one.any(axis=0).all()
    assert all(0.1 < share < 0.4 for share in is_one.mean(axis=1))


def test_single_ids_are_read_side_by_side_as_each_would_be_alone() -> None:
    single = [ids(name, "user", "content", table).model_copy(update={"length": 1}) for name, table in ONE_TABLE_TWICE]
    model = build_dropoutnet((*single, *BOTH), OPTIONS, 1)
    bags = model.user_tower.content.readers[: len(single)]
    for place, bag in enumerate(bags):
        bag.missing.assign(np.full(4, place + 1.0))
    columns = [np.array([[0], [2], [1]]), np.array([[3], [0], [1]]), np.array([[2], [2], [0]])]
    alone = np.concatenate([np.asarray(bag(column)) for bag, column in zip(bags, columns, strict=True)], axis=1)
    np.testing.assert_array_equal(np.asarray(_read_singles(columns, bags)), alone)
    assert (alone[0, :4] == 1).all() and (alone[2, 8:] == 3).all() and (alone[1, 8:] == alone[0, 8:]).all()


@pytest.mark.parametrize("pooling", [pytest.param("max", marks=pytest.mark.on_jax), "sum", "mean"])
def test_a_bag_is_pooled_as_asked_and_its_ids_weigh_what_they_are_given(pooling) -> None:
    weights = {"tags": [1.0, 2.0, 0.5, 0, 0, 0, 0, 1.0]}
    model = build_dropoutnet(BOTH, OPTIONS.model_copy(update={"pooling": pooling}), 1, weights)
    ids = np.array([[2, 3, 0], [0, 2, 3], [0, 0, 0], [2, 2, 3]])
    rows = np.asarray(model.tables["tags"].rows)
    (bag,) = [reader for reader in model.item_tower.content.readers if reader.name == "item_tags"]
    got = np.asarray(bag(ids))
    a, b = 2.0 * rows[1], 0.5 * rows[2]
    once = {"max": np.maximum(a, b), "sum": a + b, "mean": (a + b) / 2.5}[pooling]
    twice = {"max": np.maximum(a, b), "sum": 2 * a + b, "mean": (2 * a + b) / 4.5}[pooling]
    np.testing.assert_allclose(got[[0, 1]], [once, once], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[3], twice, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got[2], np.asarray(bag.missing))


def test_embeddings_of_learned_length_score_by_their_inner_product() -> None:
    model, inputs = changed(similarity="dot"), rows_of(BOTH)
    out = {name: np.asarray(value) for name, value in model(inputs).items()}
    assert np.abs(np.linalg.norm(out["item"], axis=1) - 1).max() > 1e-2
    np.testing.assert_allclose(out["score"], float(model.scale) * (out["user"] * out["item"]).sum(axis=1), rtol=1e-4)


@pytest.mark.on_jax
@pytest.mark.parametrize("linear_path", [True, False])
def test_with_a_linear_path_what_is_alike_on_both_sides_starts_alike(linear_path) -> None:
    options = OPTIONS.model_copy(
        update={"content_units": (), "preference_units": (), "tower_units": (16, 12), "linear_path": linear_path}
    )
    specs = [floats(f"{side}_{part}", side, part, 8) for side in ("user", "item") for part in ("content", "preference")]
    values = rows_of(specs[:2], rows=200)
    inputs = values | {name.replace("user", "item"): value for name, value in values.items()}
    vectors = embeddings(build_dropoutnet(specs, options, seed=3), inputs)
    cosine = (vectors["user"] * vectors["item"]).sum(axis=1).mean()
    assert (cosine > 0.4) == linear_path


@pytest.mark.on_jax
@pytest.mark.parametrize("missing", ["learned", "zero"])
def test_a_linear_path_wide_enough_starts_at_the_sum_of_the_parts_inner_products(missing) -> None:
    update = {
        "content_units": (),
        "preference_units": (),
        "tower_units": (9, 7),
        "linear_path": True,
        "missing": missing,
    }
    specs = [
        floats(f"{side}_{part}", side, part, width)
        for side in ("user", "item")
        for part, width in (("content", 4), ("preference", 3))
    ]
    model = build_dropoutnet(specs, OPTIONS.model_copy(update=update | {"similarity": "dot"}), seed=3)
    inputs = rows_of(specs)
    parts = [(inputs[f"user_{part}"] * inputs[f"item_{part}"]).sum(axis=1) for part in ("content", "preference")]
    np.testing.assert_allclose(np.asarray(model(inputs)["score"]), sum(parts), rtol=1e-4, atol=1e-5)


@pytest.mark.on_jax
def test_what_is_foretold_from_content_stands_for_a_missing_part_alone() -> None:
    plain, model = changed(), changed(foretell=True)
    inputs, missing = rows_of(BOTH), rows_of(BOTH)
    missing["item_statistics"][:] = np.nan
    np.testing.assert_allclose(embeddings(model, missing)["item"], embeddings(plain, missing)["item"], rtol=1e-5)
    kernel = model.item_tower.foretell[0].kernel
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    np.testing.assert_allclose(embeddings(model, inputs)["item"], embeddings(plain, inputs)["item"], rtol=1e-5)
    assert np.abs(embeddings(model, missing)["item"] - embeddings(plain, missing)["item"]).max() > 1e-2
