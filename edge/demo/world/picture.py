"""Pictures of a scene: background, sprites, light, noise. The same bytes on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge.demo.world.chance import Chance
from edge.demo.world.ground import ground
from edge.demo.world.pictogram import patch
from edge.demo.world.place import Places, places
from edge.demo.world.scene import Scene
from edge.demo.world.vocabulary import RGB

_GROUND, _NOISE, _LIGHT = 102, 103, 104  # name the draws
_SHADE = 0.3  # of the colour, in windows and lines
_PALE = frozenset({"black"})  # whose shade is brighter than the colour
_STARTS = 1 << 14  # places in the noise where a picture's may begin
_LIGHT_S = 7.5  # the light turns about so often
_ONE = 128  # light of strength one: 255 * 1.5 * 128 fits 16 bits


def render(scene: Scene, tick: int) -> NDArray[np.uint8]:
    """Return one picture.

    Args:
        scene: The scene.
        tick: 0 to ``scene.ticks - 1``.

    Returns:
        RGB, shape (height, width, 3).
    """
    return _painter(scene).paint(tick)


def frames(scene: Scene) -> Iterator[NDArray[np.uint8]]:
    """Yield all pictures in order, each a new array."""
    painter = _Painter(scene)
    return (painter.paint(tick) for tick in range(scene.ticks))


@lru_cache(maxsize=4)
def _painter(scene: Scene) -> _Painter:
    return _Painter(scene)


class _Painter:
    """What is the same in all pictures of a scene."""

    def __init__(self, scene: Scene) -> None:
        height, width = scene.size.height, scene.size.width
        margin = scene.shake_px
        self._places: Places = places(scene)
        self._margin = margin
        # Twice the margin at the far sides would be waste: the camera strays by at most the margin.
        self._ground = ground(
            scene.background, height + 2 * margin, width + 2 * margin, Chance(*scene.key, _GROUND)
        ).astype(np.uint16)
        self._size = height, width
        self._kinds = [sprite.kind for sprite in scene.sprites]
        self._paints = [_paints(sprite.colour) for sprite in scene.sprites]
        self._light = _light(scene)
        chance = Chance(*scene.key, _NOISE)
        # Four uniform numbers added up are nearly normal, variance 4 / 12.
        self._noise: NDArray[np.int16] | None = None
        if scene.noise > 0:
            uniform = chance.array(4, _STARTS + height * width * 3).sum(0) - 2
            self._noise = np.rint(uniform * (scene.noise * 3**0.5)).astype(np.int16)
        self._starts = (chance.array(scene.ticks) * _STARTS).astype(np.int64)

    def paint(self, tick: int) -> NDArray[np.uint8]:
        height, width = self._size
        down, right = self._places.shake[tick]
        top, left = self._margin - int(down), self._margin - int(right)
        picture = self._ground[top : top + height, left : left + width].copy()
        for index, kind in enumerate(self._kinds):
            box = self._places.box(index, tick)
            if box is None:
                continue
            sprite = patch(kind, mirrored=bool(self._places.mirrored[index, tick]), box=box)
            y1, x1 = max(0, sprite.top), max(0, sprite.left)
            y2 = min(height, sprite.top + sprite.cover.shape[0])
            x2 = min(width, sprite.left + sprite.cover.shape[1])
            if y1 >= y2 or x1 >= x2:
                continue
            part = slice(y1 - sprite.top, y2 - sprite.top), slice(x1 - sprite.left, x2 - sprite.left)
            cover, ink = sprite.cover[part][..., None], sprite.ink[part][..., None]
            colour, shade = self._paints[index]
            behind = picture[y1:y2, x1:x2]
            picture[y1:y2, x1:x2] = behind * (1 - cover) + colour * ink + shade * (cover - ink) + 0.5
        lit: NDArray[np.uint16] = (picture * self._light[tick]) >> 7
        if self._noise is not None:
            start = int(self._starts[tick])
            noise = self._noise[start : start + lit.size].reshape(lit.shape)
            lit = np.clip(lit.astype(np.int16) + noise, 0, 255).view(np.uint16)
        shown: NDArray[np.uint8] = np.minimum(lit, 255).astype(np.uint8)
        return shown


def _paints(colour: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rgb = np.array(RGB[colour], np.float64)
    return rgb, rgb + 140 if colour in _PALE else rgb * _SHADE


def _light(scene: Scene) -> NDArray[np.uint16]:
    """Return the light at every tick in 1/128: straight lines between values that are drawn every few seconds."""
    turns = int(scene.seconds / _LIGHT_S) + 2
    values = (Chance(*scene.key, _LIGHT).array(turns) * 2 - 1) * scene.drift
    at = np.arange(scene.ticks) / scene.fps
    light = 1 + np.interp(at, np.arange(turns) * _LIGHT_S, values)
    return np.rint(light * _ONE).astype(np.uint16)
