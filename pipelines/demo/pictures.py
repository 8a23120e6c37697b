"""A picture of each item, as a shop's catalogue has them: they show a part of what the item is, and some hide it.

Its category is an outline and a surface, its direction colours, its quality light: of that, which no attribute and no
word tells, a photograph shows some.
"""

import io
import tarfile
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.demo.world import QUALITY_STD, Floats, Ints, Items, generator, unit

SIDE = 24
"""Pixels of a side."""
NOISE = 0.35
"""Of each quantity shown, in its standard deviations: two photographs of one thing differ."""
PIXEL_NOISE = 0.05
BOXED = 0.1
"""Share of items that are shown in their box: outline and surface tell nothing, light does."""

Pixels = npt.NDArray[np.uint8]


def draw(items: Items, seed: int) -> Pixels:
    """(items, SIDE, SIDE, 3)."""
    rng, n = generator(seed, "images"), len(items.id)
    x, y = _places(n, rng)
    outline, surface = items.category // 4, items.category % 4
    boxed = rng.random(n) < BOXED
    shape = np.where(boxed[:, None, None], np.maximum(abs(x), abs(y)) < 0.8, _outlines(x, y, outline))
    marks = np.where(boxed[:, None, None], 0.0, _surfaces(x, y, surface))
    body, second, backdrop = _colours(items, rng)
    light = 0.7 + 0.22 * _shown(items.vector[:, -1] / QUALITY_STD, rng).clip(-2, 2)
    painted = body[:, None, None] + marks[..., None] * (second - body)[:, None, None]
    scene = np.where(shape[..., None], painted, backdrop[:, None, None])
    lit = 0.5 + (scene - 0.5) * light[:, None, None, None]
    noisy = lit + rng.normal(0, PIXEL_NOISE, lit.shape)
    return np.asarray((noisy.clip(0, 1) * 255).round(), np.uint8)


def _shown(values: Floats, rng: np.random.Generator) -> Floats:
    """Values of deviation 1 as one photograph shows them."""
    return values + NOISE * rng.normal(size=values.shape)


def _places(n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Each pixel's place in the frame of the thing: turned, moved and at another distance in each picture."""
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    across, down = np.meshgrid(axis, axis)
    angle, size = rng.normal(0, 0.25, (n, 1, 1)), rng.uniform(0.85, 1.15, (n, 1, 1))
    shift = rng.normal(0, 0.1, (2, n, 1, 1))
    across, down = across - shift[0], down - shift[1]
    cos, sin = np.cos(angle) / size, np.sin(angle) / size
    return across * cos + down * sin, down * cos - across * sin


def _outlines(x: Floats, y: Floats, kind: Ints) -> npt.NDArray[np.bool_]:
    """Whether a pixel is of the thing; five outlines: disc, square, ring, cross, triangle."""
    r = np.hypot(x, y)
    shapes = (
        r < 0.75,
        np.maximum(abs(x), abs(y)) < 0.65,
        (r < 0.8) & (r > 0.4),
        (np.minimum(abs(x), abs(y)) < 0.28) & (np.maximum(abs(x), abs(y)) < 0.8),
        (y < 0.6) & (y > 2 * abs(x) - 0.8),
    )
    return np.choose(kind[:, None, None], shapes)


def _surfaces(x: Floats, y: Floats, kind: Ints) -> Floats:
    """1 where the second colour is; four surfaces: plain with an edge, stripes, bars, checks."""
    waves = (np.sin(9 * x) > 0, np.sin(9 * y) > 0)
    surfaces = (np.hypot(x, y) < 0.25, waves[0], waves[1], waves[0] ^ waves[1])
    return np.choose(kind[:, None, None], surfaces).astype(float)


def _colours(items: Items, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Of the thing, of its marks and behind it, RGB in 0 to 1, each (items, 3)."""
    direction = items.vector[:, :-2]
    turn = unit(rng.normal(size=(6, direction.shape[1])))
    seen = (direction @ turn.T) * direction.shape[1] ** 0.5
    hues = 0.5 + 0.2 * _shown(seen, rng).clip(-2, 2)
    backdrop = rng.uniform(0.75, 1.0, (len(items.id), 1)) + rng.normal(0, 0.03, (len(items.id), 3))
    return hues[:, :3], hues[:, 3:], backdrop


def archive(pictures: Mapping[str, bytes]) -> bytes:
    """A tar of files by name, with nothing in it that two runs could differ in."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in pictures.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def png(pixels: Pixels) -> bytes:
    """One picture as a file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()
