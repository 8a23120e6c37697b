"""Every kind of JPEG and PNG becomes pixels of one shape, or a reason."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipelines.images.decode import Decoder, UnreadableError


def pixels(options, data: bytes, **changes) -> np.ndarray:
    chosen = options(**changes)
    raw = Decoder(chosen).decode(data)
    return np.frombuffer(raw, np.uint8).reshape(chosen.height, chosen.width, chosen.channels)


def saved(image: Image.Image, form: str = "PNG", **save) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **save)
    return out.getvalue()


def test_an_image_of_the_wanted_shape_keeps_its_pixels(options) -> None:
    values = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    assert np.array_equal(pixels(options, saved(Image.fromarray(values))), values)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_of_any_colours_has_the_channels_asked_for(options, image_bytes, mode, channels) -> None:
    assert pixels(options, image_bytes(mode=mode), channels=channels).shape == (6, 8, channels)


def test_grey_is_repeated_in_three_channels(options) -> None:
    found = pixels(options, saved(Image.new("L", (8, 6), 77)))
    assert np.all(found == 77)


def test_cmyk_is_shown_in_its_own_colours(options) -> None:
    found = pixels(options, saved(Image.new("CMYK", (8, 6), (0, 255, 255, 0)), "JPEG"))
    assert found[0, 0, 0] > 200
    assert found[0, 0, 1:].max() < 60


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(options, mode) -> None:
    hidden = (10, 20, 30, 0) if mode == "RGBA" else (10, 0)
    assert np.all(pixels(options, saved(Image.new(mode, (8, 6), hidden))) == 255)


def test_a_palette_with_a_transparent_colour_is_white_there(options) -> None:
    image = Image.new("P", (8, 6), 0)
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.putpixel((0, 0), 1)
    found = pixels(options, saved(image, transparency=0))
    assert found[0, 0].tolist() == [0, 200, 0]
    assert np.all(found[1:] == 255)


def test_sixteen_bits_keep_their_upper_eight(options) -> None:
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    found = pixels(options, saved(Image.fromarray(values)), channels=1)[:, :, 0]
    assert np.array_equal(found, (values >> 8).astype(np.uint8))


def test_a_camera_held_sideways_is_turned_upright(options) -> None:
    upright = np.zeros((6, 8, 3), np.uint8)
    upright[:, :4] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90° clockwise to see it
    stored = Image.fromarray(np.rot90(upright).copy())
    found = pixels(options, saved(stored, "JPEG", exif=exif, quality=95, subsampling=0))
    assert found[:, :3].min() > 200
    assert found[:, 5:].max() < 50


@pytest.mark.parametrize(("resize", "edge", "middle"), [("stretch", 255, 255), ("crop", 255, 255), ("pad", 0, 255)])
def test_another_shape_is_stretched_cropped_or_padded(options, resize, edge, middle) -> None:
    tall = saved(Image.new("L", (10, 40), 255))
    found = pixels(options, tall, resize=resize)
    assert (found[3, 0, 0], found[3, 4, 0]) == (edge, middle)


def test_a_large_photograph_is_reduced_to_its_own_colours(options) -> None:
    values = np.zeros((480, 640, 3), np.uint8)
    values[:, 320:] = 240
    found = pixels(options, saved(Image.fromarray(values), "JPEG"))
    assert found[:, :3].max() < 30
    assert found[:, 5:].min() > 210


def reason(options, data: bytes, **changes) -> str:
    with pytest.raises(UnreadableError) as caught:
        Decoder(options(**changes)).decode(data)
    return str(caught.value)


def test_a_truncated_jpeg_is_damaged(options, image_bytes) -> None:
    whole = image_bytes(size=(64, 64))
    assert reason(options, whole[: len(whole) // 2]).startswith("image: damaged (image file is truncated")


def test_a_truncated_png_is_damaged(options, image_bytes) -> None:
    whole = image_bytes(size=(64, 64), form="PNG")
    assert reason(options, whole[: len(whole) // 2]).startswith("image: damaged (")


def test_text_named_jpg_is_neither_jpeg_nor_png(options) -> None:
    assert reason(options, b"<html>404</html>") == "image: neither JPEG nor PNG"
    assert reason(options, b"") == "image: empty file"


def test_a_gif_is_neither(options, image_bytes) -> None:
    assert reason(options, image_bytes(form="GIF", mode="L")) == "image: neither JPEG nor PNG"


def test_an_image_too_large_is_refused_before_it_is_decoded(options, image_bytes) -> None:
    assert "3600 pixels" not in reason(options, image_bytes(size=(60, 60)), max_pixels=3599)
    assert "60×60 pixels, more than 3599" in reason(options, image_bytes(size=(60, 60)), max_pixels=3599)


def test_a_decompression_bomb_is_refused(options) -> None:
    bomb = saved(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 100_000
    assert "pixels" in reason(options, bomb)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_bytes_are_pixels_already(options, channels) -> None:
    raw = bytes(range(48))
    found = Decoder(options(channels=channels)).from_grey(raw, 6, 8)
    assert np.array_equal(np.frombuffer(found, np.uint8).reshape(6, 8, channels)[:, :, 0].ravel(), np.arange(48))
    assert len(Decoder(options(height=3, width=3)).from_grey(raw, 6, 8)) == 27


@pytest.mark.parametrize(("mode", "clear", "channels"), [("RGB", (10, 20, 30), 3), ("L", 10, 1)])
def test_a_colour_that_a_png_calls_transparent_is_white(options, mode, clear, channels) -> None:
    assert np.all(pixels(options, saved(Image.new(mode, (8, 6), clear), transparency=clear), channels=channels) == 255)


@pytest.mark.parametrize("place", ["exif", "xmp", "profile"])
def test_an_image_of_the_wanted_shape_is_turned_wherever_it_says_so(options, place) -> None:
    values = np.zeros((6, 8), np.uint8)
    values[:3] = 250
    exif = Image.Exif()
    exif[0x0112] = 3
    if place == "exif":
        data = saved(Image.fromarray(values), exif=exif)
    elif place == "xmp":
        about = b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
        data = saved(Image.fromarray(values), "JPEG", xmp=about, quality=95)
    else:
        text = PngInfo()
        raw = exif.tobytes()
        text.add_text("Raw profile type exif", f"\nexif\n{len(raw)}\n{raw.hex()}")
        data = saved(Image.fromarray(values), pnginfo=text)
    found = pixels(options, data, channels=1)[:, :, 0]
    assert found[:3].max() < 60
    assert found[3:].min() > 200


def test_an_image_of_one_pixel_fills_the_whole_shape(options) -> None:
    assert (pixels(options, saved(Image.new("RGB", (1, 1), (10, 20, 30)))) == (10, 20, 30)).all()
