"""What every classifier promises: equal seeds, equal weights; a known first loss; a file that Keras alone reads.

Networks have one unit where the papers have several: whole ones are counted in `test_networks`.
"""

import keras
import numpy as np
import pytest

from pipelines.config import ClassifierOptions
from pipelines.errors import ConfigError
from pipelines.losses.classification import class_loss
from pipelines.models import mobilenet, plain, shufflenet
from pipelines.models.classifier import FAMILIES, build_classifier, templates
from schemas.fitted import InputSpec

SHAPE, CLASSES = (16, 16, 3), 5
PIXELS = np.random.default_rng(0).uniform(0, 255, (6, *SHAPE)).astype("float32")
LABELS = np.array([0, 1, 2, 3, 4, 0])
SPECS = (
    InputSpec(name="item_price", side="item", part="content", kind="floats", length=2),
    InputSpec(name="item_title", side="item", part="content", kind="ids", length=4, table="words", table_size=9),
    InputSpec(name="item_words", side="item", part="content", kind="ids", length=2, table="words", table_size=9),
)
CONTENT = {
    "item_price": np.array([[0.5, np.nan], [1.0, 2.0], [np.nan, np.nan]], "float32"),
    "item_title": np.array([[1, 2, 2, 0], [0, 0, 0, 0], [8, 0, 0, 0]]),
    "item_words": np.array([[0, 0], [3, 0], [4, 5]]),
}
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True)
def shallow(monkeypatch) -> None:
    monkeypatch.setattr(plain, "_CHANNELS", (32, 64))
    monkeypatch.setattr(mobilenet, "_V1", ((64, 1), (128, 2), (128, 2)))
    monkeypatch.setattr(mobilenet, "_V2", ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 1, 2)))
    monkeypatch.setattr(shufflenet, "_UNITS", (2,))
    monkeypatch.setattr(shufflenet, "_V2_CHANNELS", {1.0: (116, 1024)})


def options_of(family: str, **more) -> ClassifierOptions:
    tricks = {}
    if family not in ("linear", "two_layer"):
        tricks = {"squeeze_excitation": 16, "blur_pool": True}
        if family in ("mobilenet_v2", "shufflenet_v1"):
            tricks["drop_path"] = 0.5
    return ClassifierOptions.model_validate(
        {"family": family, "stem": "small", "tricks": tricks, "dropout": 0.2} | more
    )


def built(family: str, seed: int = 1, **more):
    return build_classifier(options_of(family, **more), SHAPE, CLASSES, seed=seed)


def one_step(model, loss) -> float:
    def of_batch(labels, scores):
        return loss(scores, labels)

    model.compile(keras.optimizers.SGD(0.1), loss=of_batch, run_eagerly=True)
    return float(model.train_on_batch(PIXELS, LABELS))


@EVERY_FAMILY
def test_equal_seeds_train_to_equal_weights_and_keras_alone_reads_them(family, tmp_path) -> None:
    model, twin = built(family), built(family)
    # Of equal names, the two are saved as equal bytes.
    assert model.to_json() == twin.to_json()
    start = model.get_weights()
    loss = class_loss(options_of(family).loss)
    assert one_step(model, loss) == pytest.approx(np.log(CLASSES), rel=1e-5)
    one_step(twin, loss)
    for before, mine, its in zip(start, model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(mine, its)
        assert np.isfinite(np.asarray(mine)).all()
        assert "scores" not in mine.path or not np.array_equal(before, mine)
    # None of our own layers is in the file.
    assert "pipelines" not in model.to_json()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(again(PIXELS), model(PIXELS))
    assert len(again.get_layer("features").output.shape) == 2
    if family not in ("linear", "two_layer"):
        # One halving is left of the small stem's network; the large stem has two more.
        assert again.get_layer("pool").input.shape[1:3] == (8, 8)


def test_other_seeds_start_otherwise() -> None:
    mine, its = (built("two_layer", seed=seed).get_layer("hidden").get_weights()[0] for seed in (1, 2))
    assert not np.array_equal(mine, its)


@pytest.mark.parametrize("family", ["linear", "two_layer"])
def test_content_of_any_kind_is_classified(family, tmp_path) -> None:
    model = build_classifier(ClassifierOptions(family=family, embedding_dim=3), SPECS, CLASSES, seed=1)
    table = np.asarray(model.get_layer("words").embeddings)
    features = keras.Model(model.input, model.get_layer("flat").output)
    read = np.asarray(features(CONTENT))
    words = (table[1] + 2 * table[2]) / 3
    np.testing.assert_allclose(read[0], [0.5, 0, 0, 1, *words, 0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(read[1], [1, 2, 0, 0, 0, 0, 0, *table[3]], rtol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(again(CONTENT), model(CONTENT))
    assert np.isfinite(np.asarray(again(CONTENT))).all()


def test_a_bias_is_a_weight_of_an_input_that_is_always_one() -> None:
    model = built("linear", dropout=0.0)
    draw = np.random.default_rng(3)
    weights, bias = draw.normal(size=(768, CLASSES)), draw.normal(size=CLASSES)
    model.set_weights([weights, bias])
    scaled = PIXELS.reshape(6, -1) / 127.5 - 1
    longer = np.concatenate([scaled, np.ones((6, 1))], axis=1)
    np.testing.assert_allclose(model(PIXELS), longer @ np.vstack([weights, bias]), rtol=1e-3, atol=1e-3)


def test_the_mean_image_is_taken_off_and_kept_with_the_model(tmp_path) -> None:
    mean = PIXELS.mean(axis=0)
    model = build_classifier(options_of("linear"), SHAPE, CLASSES, seed=1, mean=mean)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    scaled = keras.Model(again.input, again.get_layer("scaled").output)(PIXELS)
    np.testing.assert_allclose(scaled, (PIXELS - mean) / 127.5, atol=1e-4)
    with pytest.raises(ConfigError, match="must have the shape of an image"):
        build_classifier(options_of("linear"), SHAPE, CLASSES, seed=1, mean=mean[:-1])


def test_rows_of_a_linear_classifier_are_pictures() -> None:
    model = built("linear")
    weights = np.zeros((768, CLASSES))
    weights[0, 2], weights[767, 4] = 0.5, -1.0
    model.set_weights([weights, np.zeros(CLASSES)])
    pictures = templates(model)
    assert pictures.shape == (CLASSES, *SHAPE)
    assert [pictures[2, 0, 0, 0], pictures[4, 15, 15, 2], pictures[0, 0, 0, 0]] == [191, 0, 128]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"family": "shufflenet_v2", "width": 0.7}, "width of shufflenet_v2 must be one of 1.0, got 0.7"),
        ({"family": "shufflenet_v1", "groups": 8, "width": 0.3}, "must be divisible"),
    ],
)
def test_networks_that_cannot_be_are_refused(more, told) -> None:
    with pytest.raises(ConfigError, match=told):
        build_classifier(ClassifierOptions.model_validate(more), SHAPE, CLASSES, seed=1)


def test_content_goes_to_no_convolutional_network_and_one_class_to_none() -> None:
    with pytest.raises(ConfigError, match="must go to linear or two_layer, got"):
        build_classifier(options_of("mobilenet_v1"), SPECS, CLASSES, seed=1)
    with pytest.raises(ConfigError, match="at least two classes, got 1"):
        build_classifier(options_of("linear"), SHAPE, 1, seed=1)
    with pytest.raises(ConfigError, match="must have an input"):
        build_classifier(options_of("linear"), (), CLASSES, seed=1)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"family": "mobilenet_v1", "tricks": {"drop_path": 0.1}}, "no residual branches"),
        ({"family": "linear", "tricks": {"blur_pool": True}}, "tricks belong to convolutional networks"),
    ],
)
def test_tricks_that_a_family_has_no_place_for_are_refused(wrong, told) -> None:
    with pytest.raises(ValueError, match=told):
        ClassifierOptions.model_validate(wrong)
