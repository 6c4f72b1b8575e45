"""Backgrounds: muted, textured surfaces that cameras look at, made of noise and straight lines."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.demo.world.chance import Chance

GROUNDS: Final = ("plain", "gradient", "asphalt", "grass", "bricks", "tiles", "yard", "road")

_TINTS: Final[dict[str, tuple[float, float, float]]] = {
    "plain": (128, 126, 122),
    "gradient": (124, 128, 134),
    "asphalt": (106, 106, 110),
    "grass": (116, 120, 104),
    "bricks": (138, 116, 106),
    "tiles": (136, 132, 124),
    "yard": (124, 120, 110),
    "road": (104, 104, 106),
}


def ground(name: str, height: int, width: int, chance: Chance) -> NDArray[np.uint8]:
    """Draw a background.

    Args:
        name: One of `GROUNDS`.
        height: Rows.
        width: Columns.
        chance: Where its details come from.

    Returns:
        RGB, shape (height, width, 3); every level well inside 0..255, so that light may drift.
    """
    light = chance.between(0.85, 1.15)
    tint = np.array(_TINTS[name]) * light + (chance.array(3) - 0.5) * 10
    y = (np.arange(height)[:, None] + 0.5) / height
    x = (np.arange(width)[None, :] + 0.5) / width
    relief = np.zeros((height, width))
    if name == "gradient":
        relief += 50 * ((y - 0.5) * chance.between(-1, 1) + (x - 0.5) * chance.between(-1, 1))
    relief += {"plain": 4, "gradient": 4}.get(name, 9) * _clouds(height, width, 3, chance)
    if name in {"asphalt", "road", "grass", "yard"}:
        relief += (14 if name == "grass" else 9) * (chance.array(height, width) - 0.5)
        relief += 8 * _clouds(height, width, 24, chance)
    if name == "bricks":
        relief += _courses(y, x, rows=9, columns=5, offset=0.5, chance=chance)
    if name == "tiles":
        relief += _courses(y, x, rows=5, columns=6, offset=0.0, chance=chance)
    if name == "yard":
        wall = y < chance.between(0.2, 0.32)
        relief = np.where(wall, 22 + 0.4 * relief, relief)
    if name == "road":
        edge = chance.between(0.3, 0.4)
        relief = np.where(y < edge, 16 + relief, relief)
        kerb = np.abs(y - edge) < 0.015
        relief = np.where(kerb, relief + 24, relief)
    picture = tint + relief[..., None]
    return np.rint(np.clip(picture, 40, 200)).astype(np.uint8)


def _clouds(height: int, width: int, cells: int, chance: Chance) -> NDArray[np.float64]:
    """Return smooth noise on -1..1, ``cells`` to the picture's height."""
    columns = max(1, round(cells * width / height))
    coarse = chance.array(cells + 1, columns + 1) * 2 - 1
    row, down = _lattice(height, cells)
    column, right = _lattice(width, columns)
    upper = coarse[row][:, column] * (1 - right) + coarse[row][:, column + 1] * right
    lower = coarse[row + 1][:, column] * (1 - right) + coarse[row + 1][:, column + 1] * right
    found: NDArray[np.float64] = upper * (1 - down[:, None]) + lower * down[:, None]
    return found


def _lattice(pixels: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    at = (np.arange(pixels) + 0.5) / pixels * cells
    whole = at.astype(np.int64)
    part = at - whole
    return whole, part * part * (3 - 2 * part)


def _courses(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    *,
    rows: int,
    columns: int,
    offset: float,
    chance: Chance,
) -> NDArray[np.float64]:
    """Return the relief of stones in rows, every second one shifted, with joints between them."""
    row = (y * rows).astype(np.int64)
    along = x * columns + offset * (row % 2) + 0.0 * y
    column = along.astype(np.int64)
    stones = (chance.array(rows + 1, columns + 2) - 0.5) * 16
    joint = (y * rows - row < 0.14) | (along - column < 0.07)
    return np.where(joint, 14.0, stones[np.broadcast_to(row, column.shape), column])
