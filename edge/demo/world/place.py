"""Where every sprite of a scene is at every tick, in pixels: what the picture and the truth both rest on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge.demo.world.pictogram import aspect, share_within
from edge.demo.world.scene import Scene, Sprite, positions, shake
from edge.records import Size


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Places of n sprites at all ticks.

    Attributes:
        boxes: x1, y1, x2, y2 in pixels, not cut off by the picture's edge, shape (n, ticks, 4); NaN where absent.
        mirrored: Whether it faces left, shape (n, ticks).
        within: Share of its area inside the picture, shape (n, ticks); 0 where absent.
        shake: The camera's stray, already in ``boxes``, pixels down and right, shape (ticks, 2).
    """

    boxes: NDArray[np.float64]
    mirrored: NDArray[np.bool_]
    within: NDArray[np.float64]
    shake: NDArray[np.int64]

    def box(self, index: int, tick: int) -> tuple[float, float, float, float] | None:
        """Return the box of a sprite, or None where it is absent."""
        x1, y1, x2, y2 = self.boxes[index, tick].tolist()
        return None if x1 != x1 else (x1, y1, x2, y2)  # noqa: PLR0124  # NaN


def extent(kind: str, side: float, size: Size) -> tuple[float, float]:
    """Return width and height in pixels of a sprite's box."""
    pixels = side * min(size.height, size.width)
    root = aspect(kind) ** 0.5
    return pixels * root, pixels / root


@lru_cache(maxsize=4)
def places(scene: Scene) -> Places:
    """Work out where everything is."""
    times = np.arange(scene.ticks) / scene.fps
    strays = shake(scene)
    count = len(scene.sprites)
    boxes = np.full((count, scene.ticks, 4), np.nan)
    mirrored = np.zeros((count, scene.ticks), bool)
    within = np.zeros((count, scene.ticks))
    size = np.array([scene.size.width, scene.size.height], np.float64)
    for index, sprite in enumerate(scene.sprites):
        half = np.array(extent(sprite.kind, sprite.side, scene.size)) / 2
        centre = positions(sprite, times) * size + strays[:, ::-1]
        boxes[index] = np.concatenate([centre - half, centre + half], axis=1)
        mirrored[index] = _mirrored(sprite, times)
        full = np.concatenate([size, size]) * [0, 0, 1, 1]
        corner, span = centre - half, 2 * half
        clip = np.concatenate([(full[:2] - corner) / span, (full[2:] - corner) / span], axis=1)
        clip[mirrored[index], ::2] = 1 - clip[mirrored[index], 2::-2]
        share = share_within(sprite.kind, np.nan_to_num(clip))
        share[np.isnan(centre[:, 0])] = 0
        within[index] = share
    return Places(boxes, mirrored, within, strays)


def _mirrored(sprite: Sprite, times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether the last move before each moment, or the first one after the start, went to the left."""
    keys = sprite.path
    steps = np.array([after.x - before.x for before, after in pairwise(keys)])
    starts = np.array([key.at_s for key in keys[:-1]])
    moves = np.flatnonzero(steps)
    if not len(moves):
        return np.full(times.shape, sprite.faces_left)
    last = np.searchsorted(starts[moves], times + 1e-9, side="right") - 1
    found: NDArray[np.bool_] = steps[moves][np.maximum(last, 0)] < 0
    return found
