"""The pictograms, and how one covers the pixels of a picture at any size and place.

Material Design Icons by the Pictogrammers, Apache-2.0, and plain shapes; see PICTOGRAMS.md beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SHEET = Path(__file__).with_name("pictograms.npz")


@dataclass(frozen=True, slots=True)
class Patch:
    """A pictogram on the grid of pixels.

    Attributes:
        top: Row of the first pixel that it may touch; may lie outside the picture.
        left: The same for columns.
        cover: How much of each pixel it covers, 0..1, shape (h, w).
        ink: How much of each pixel is painted in its colour and not in its shade, <= cover.
    """

    top: int
    left: int
    cover: NDArray[np.float64]
    ink: NDArray[np.float64]


@cache
def _sheet() -> dict[str, NDArray[np.uint8]]:
    with np.load(_SHEET, allow_pickle=False) as stored:
        return {kind: stored[kind] for kind in stored.files}


@cache
def _sums(kind: str, mirrored: bool) -> NDArray[np.float64]:  # noqa: FBT001  # the key of a cache
    """Return the summed-area tables of cover and ink, shape (2, h + 1, w + 1), in pixels of the sheet."""
    cover, tone = _sheet()[kind].astype(np.float64) / 255
    layers = np.stack([cover, cover * tone])
    if mirrored:
        layers = layers[:, :, ::-1]
    sums: NDArray[np.float64] = np.pad(layers, ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
    return sums


def aspect(kind: str) -> float:
    """Return width by height of a pictogram's box."""
    _, height, width = _sheet()[kind].shape
    return float(width / height)


def share_within(kind: str, clip: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much of a pictogram lies within parts of its box.

    Args:
        kind: The pictogram, facing right.
        clip: Parts: x1, y1, x2, y2 as shares of the box, shape (n, 4).

    Returns:
        Share of its area, shape (n,).
    """
    table = _sums(kind, mirrored=False)[0]
    height, width = table.shape[0] - 1, table.shape[1] - 1
    x1, y1, x2, y2 = np.clip(clip, 0, 1).T

    def sums(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        column, row = x * width, y * height
        i, j = (
            np.minimum(row.astype(np.int64), height - 1),
            np.minimum(column.astype(np.int64), width - 1),
        )
        down, right = row - i, column - j
        upper = table[i, j] * (1 - right) + table[i, j + 1] * right
        lower = table[i + 1, j] * (1 - right) + table[i + 1, j + 1] * right
        found: NDArray[np.float64] = upper * (1 - down) + lower * down
        return found

    inside = sums(x2, y2) - sums(x1, y2) - sums(x2, y1) + sums(x1, y1)
    inside[(x2 <= x1) | (y2 <= y1)] = 0
    share: NDArray[np.float64] = inside / table[-1, -1]
    return share


def patch(kind: str, *, mirrored: bool, box: tuple[float, float, float, float]) -> Patch:
    """Return how a pictogram covers the pixels when it fills a box.

    Exact area coverage of the sheet's pixels, so also a sprite of eight pixels moves smoothly.

    Args:
        kind: The pictogram.
        mirrored: It faces left.
        box: x1, y1, x2, y2 in pixels, not rounded.
    """
    x1, y1, x2, y2 = box
    left, top = int(np.floor(x1)), int(np.floor(y1))
    cover, ink = _within(kind, mirrored, (x1 - left, y1 - top, x2 - left, y2 - top))
    return Patch(top, left, cover, ink)


@lru_cache(maxsize=256)
def _within(
    kind: str,
    mirrored: bool,  # noqa: FBT001  # the key of a cache
    box: tuple[float, float, float, float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x1, y1, x2, y2 = box
    table = _sums(kind, mirrored)
    height, width = table.shape[1] - 1, table.shape[2] - 1
    row, down = _split((np.arange(int(np.ceil(y2)) + 1) - y1) * (height / (y2 - y1)), height)
    column, right = _split((np.arange(int(np.ceil(x2)) + 1) - x1) * (width / (x2 - x1)), width)
    rows = table[:, row] * (1 - down)[:, None] + table[:, row + 1] * down[:, None]
    sums = rows[:, :, column] * (1 - right) + rows[:, :, column + 1] * right
    areas = np.diff(np.diff(sums, axis=1), axis=2) * ((y2 - y1) / height * (x2 - x1) / width)
    cover = np.clip(areas[0], 0, 1)
    return cover, np.minimum(areas[1], cover)


def _split(at: NDArray[np.float64], limit: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    clipped = np.clip(at, 0, limit)
    whole = np.minimum(clipped.astype(np.int64), limit - 1)
    return whole, clipped - whole
