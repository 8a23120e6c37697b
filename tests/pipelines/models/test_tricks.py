"""Blocks of convolutional networks by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from pipelines.models.convolutions import channel_shuffle, convolution, pointwise
from pipelines.models.tricks import blur_pool, drop_path, path_rates, squeeze_excitation


def applied(block, values, training=False):
    values = np.asarray(values, "float32")
    image = keras.Input(values.shape[1:])
    model = keras.Model(image, block(image))
    return model, ops.convert_to_numpy(model(values, training=training))


def test_shuffled_channels_come_from_each_group_in_turn() -> None:
    _, out = applied(lambda x: channel_shuffle(x, 3, name="s"), np.arange(6.0).reshape(1, 1, 1, 6))
    assert out.ravel().tolist() == [0, 2, 4, 1, 3, 5]


def test_a_grouped_pointwise_convolution_reads_each_part_by_itself() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 2, 6))
    model, out = applied(lambda x: pointwise(x, 8, groups=2, seed=1, name="p"), values)
    kernel = np.asarray(model.get_layer("p").kernel)
    assert kernel.shape == (2, 3, 4)
    expected = np.concatenate([values[..., :3] @ kernel[0], values[..., 3:] @ kernel[1]], axis=-1)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_filters_start_by_what_each_reads() -> None:
    model, _ = applied(lambda x: convolution(x, 64, size=3, groups=4, seed=1, name="c"), np.zeros((1, 4, 4, 32)))
    # Two over 3 · 3 · 8.
    assert np.std(np.asarray(model.get_layer("c").kernel)) == pytest.approx((2 / 72) ** 0.5, rel=0.05)


def test_gates_multiply_each_channel_by_what_the_whole_image_says() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 3, 4))
    model, out = applied(lambda x: squeeze_excitation(x, 2, seed=1, name="se"), values)
    reduce, excite = (np.asarray(model.get_layer(f"se_{part}").kernel) for part in ("reduce", "excite"))
    assert reduce.shape == (4, 2)
    hidden = np.maximum(values.mean(axis=(1, 2)) @ reduce, 0)
    gates = 1 / (1 + np.exp(-hidden @ excite))
    np.testing.assert_allclose(out, values * gates[:, None, None], rtol=1e-4, atol=1e-5)


def test_blur_pool_blurs_before_it_takes_every_second_pixel() -> None:
    # A row of a single 16: its neighbours get a quarter, it keeps a half. Columns 0, 2, 4; rows are alike.
    image = np.tile(np.array([0, 16, 0, 0, 0.0]), (5, 1))[None, :, :, None]
    _, out = applied(lambda x: blur_pool(x, name="b"), image)
    # Reflected at the edge, column 0 sees the 16 twice.
    np.testing.assert_allclose(out[0, :, :, 0], np.tile([8, 4, 0.0], (3, 1)), atol=1e-5)
    model, out = applied(lambda x: blur_pool(x, name="b"), np.full((1, 4, 6, 2), 3.0))
    np.testing.assert_allclose(out, np.full((1, 2, 3, 2), 3.0), rtol=1e-6)
    assert not model.trainable_variables


def test_a_dropped_path_is_dropped_for_whole_images_and_keeps_its_mean() -> None:
    ones = np.ones((4000, 2, 1, 3))
    model, out = applied(lambda x: drop_path(x, 0.25, seed=1, name="d"), ones, training=True)
    each = out.reshape(4000, -1)
    assert (each == each[:, :1]).all()
    assert np.unique(each).tolist() == pytest.approx([0, 4 / 3])
    assert each.mean() == pytest.approx(1, abs=0.04)
    np.testing.assert_array_equal(ops.convert_to_numpy(model(ones)), ones)


def test_paths_are_dropped_more_often_the_deeper_they_lie() -> None:
    assert path_rates(0.3, 3) == [0.1, 0.2, 0.3]
    image = keras.Input((2, 2, 1))
    assert drop_path(image, 0.0, seed=1, name="d") is image
