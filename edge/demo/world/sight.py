"""What can be seen at one moment: boxes of what is visible, how things stand to each other, what lies in which cell."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.demo.world.event import patch_at, uncovered
from edge.demo.world.pictogram import Patch
from edge.demo.world.place import places
from edge.demo.world.scene import Scene
from edge.demo.world.vocabulary import COLOURS, KINDS

LISTED: Final = 0.1  # share of its area from which on a sprite is listed with its box
COVERED: Final = 0.9  # what shows less than this beside another is behind it
WHOLE: Final = 0.98  # share from which on its box is that of all of it
NEAR: Final = 0.06  # of the picture's shorter side: what is nearer is next to

CELL: Final = 32  # pixels to a side of what one visual token shows
_CELL_SHARE: Final = 0.08  # share of a cell's area that makes it a sprite's
_OWN_SHARE: Final = 0.3  # or share of the sprite's visible area

_FINE: Final = 256  # pixels of the shorter side on which partly covered boxes are measured

SHOWN: Final = frozenset({"left of", "right of", "above", "below", "next to"})
"""How things stand to each other that their boxes show; nobody has to say so."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Sight:
    """A sprite that can be seen.

    Attributes:
        sprite: Index into ``Scene.sprites``.
        label: Its name.
        box: x1, y1, x2, y2 of its visible part on 0..1000 of the picture.
        share: How much of its area can be seen, 0..1.
    """

    sprite: int
    label: str
    box: Box
    share: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How one sprite stands to another; both are labels."""

    subject: str
    relation: str
    object: str


def sights(scene: Scene, tick: int) -> tuple[Sight, ...]:
    """Return what can be seen in a picture, in the order of the names.

    Args:
        scene: The scene.
        tick: The picture; -1 is the last.
    """
    tick %= scene.ticks
    where = places(scene)
    found = []
    for index, sprite in enumerate(scene.sprites):
        share = float(where.within[index, tick])
        for front in range(index + 1, len(scene.sprites)):
            share *= uncovered(scene, index, front, tick)
        if share < LISTED:
            continue
        # What is cut off or covered shows a part whose own box may be smaller: think of a triangle's corner.
        box = _box(scene, index, tick) if share > WHOLE else _shown_box(scene, index, tick)
        if box[0] < box[2] and box[1] < box[3]:
            found.append(Sight(index, sprite.label, box, share))
    return tuple(sorted(found, key=lambda sight: sight.label))


def standings(scene: Scene, tick: int, seen: tuple[Sight, ...]) -> tuple[Standing, ...]:
    """Return how the sprites that are seen stand to each other, at most one thing for each pair and its nearness.

    ``carrying`` and ``behind`` come first; the rest is ``left of`` or ``right of`` where the boxes are farther apart, or overlap less,
    across than down, and else ``above`` or ``below``. Pairs that touch nearly are ``next to`` each other as well.
    """
    tick %= scene.ticks
    where = places(scene)
    found: list[Standing] = []
    near: list[Standing] = []
    for one, other in combinations(seen, 2):
        back, front = sorted((one, other), key=lambda sight: sight.sprite)
        if scene.sprites[front.sprite].carrier_at(tick / scene.fps) == back.sprite:
            found.append(Standing(back.label, "carrying", front.label))
            continue
        if uncovered(scene, back.sprite, front.sprite, tick) < COVERED:
            found.append(Standing(back.label, "behind", front.label))
            continue
        (x1, y1, x2, y2), (u1, v1, u2, v2) = one.box, other.box
        across, down = max(x1, u1) - min(x2, u2), max(y1, v1) - min(y2, v2)
        if across * scene.size.width > down * scene.size.height:
            relation = "left of" if x1 + x2 < u1 + u2 else "right of"
        else:
            relation = "above" if y1 + y2 < v1 + v2 else "below"
        found.append(Standing(one.label, relation, other.label))
        first, second = where.boxes[one.sprite, tick], where.boxes[other.sprite, tick]
        gap = float((np.maximum(first[:2], second[:2]) - np.minimum(first[2:], second[2:])).max())
        if 0 <= gap < NEAR * min(scene.size.height, scene.size.width):
            near.append(Standing(one.label, "next to", other.label))
    return (*found, *near)


def cells(scene: Scene, tick: int, *, cell: int = CELL) -> NDArray[np.int8]:
    """Return what lies in each cell of a picture.

    Args:
        scene: The scene; both sides of its pictures are multiples of ``cell``.
        tick: The picture; -1 is the last.
        cell: Side of a cell, pixels.

    Returns:
        Shape (height / cell, width / cell, 2): 1 + place in `KINDS`, 1 + place in `COLOURS`; 0 where nothing lies.
    """
    owner, _ = owners(scene, tick, cell=cell)
    names = [(1 + KINDS.index(sprite.kind), 1 + COLOURS.index(sprite.colour)) for sprite in scene.sprites]
    return np.array([*names, (0, 0)], np.int8)[owner]


def owners(
    scene: Scene, tick: int, *, cell: int = CELL, parts: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return whose each cell of a picture is, and which parts of it are taken by anybody.

    Args:
        scene: The scene; both sides of its pictures are multiples of ``cell``.
        tick: The picture; -1 is the last.
        cell: Side of a cell, pixels.
        parts: A cell is cut into parts x parts, each of whole pixels.

    Returns:
        Indices into ``Scene.sprites``, shape (height / cell, width / cell), -1 where nothing lies; and whether
        something lies in a part, shape (height / cell, width / cell, parts, parts).
    """
    tick %= scene.ticks
    rows, columns = scene.size.height // cell, scene.size.width // cell
    height, width, part = rows * cell, columns * cell, cell // parts
    found = np.full((rows, columns), -1, np.int64)
    best = np.zeros((rows, columns))
    taken = np.zeros((rows, parts, columns, parts), bool)
    free = np.ones((height, width))
    for index in reversed(range(len(scene.sprites))):
        drawn = patch_at(scene, index, tick)
        if drawn is None:
            continue
        (y, x), cover = _inside(drawn, height, width)
        if not cover.size:
            continue
        shown = np.zeros_like(free)
        shown[y, x] = cover * free[y, x]
        free[y, x] *= 1 - cover
        fine = shown.reshape(rows, parts, part, columns, parts, part).sum((2, 5))
        area = fine.sum((1, 3))
        total = area.sum()
        if total < LISTED * drawn.cover.sum():
            continue
        mine = (area >= min(_CELL_SHARE * cell * cell, _OWN_SHARE * total)) & (area > best)
        best[mine] = area[mine]
        found[mine] = index
        taken |= fine >= min(_CELL_SHARE * part * part, _OWN_SHARE * total)
    return found, taken.transpose(0, 2, 1, 3)


def _inside(drawn: Patch, height: int, width: int) -> tuple[tuple[slice, slice], NDArray[np.float64]]:
    """Return where in the picture a patch lies, and the part of its cover that does."""
    y1, x1 = max(0, drawn.top), max(0, drawn.left)
    y2 = max(y1, min(height, drawn.top + drawn.cover.shape[0]))
    x2 = max(x1, min(width, drawn.left + drawn.cover.shape[1]))
    part = drawn.cover[y1 - drawn.top : y2 - drawn.top, x1 - drawn.left : x2 - drawn.left]
    return (slice(y1, y2), slice(x1, x2)), part


def _thousandths(scene: Scene, sides: tuple[float, float, float, float]) -> Box:
    x1, y1, x2, y2 = (
        round(1000 * min(1.0, max(0.0, side / length)))
        for side, length in zip(sides, (scene.size.width, scene.size.height) * 2, strict=True)
    )
    return x1, y1, x2, y2


def _box(scene: Scene, index: int, tick: int) -> Box:
    box = places(scene).box(index, tick)
    if box is None:
        raise ValueError(f"sprite {index} is absent at tick {tick}")
    return _thousandths(scene, box)


def _shown_box(scene: Scene, index: int, tick: int) -> Box:
    """Return the box of what the picture's edge and others leave to be seen of a sprite."""
    zoom = _FINE / min(scene.size.height, scene.size.width)
    height, width = round(scene.size.height * zoom), round(scene.size.width * zoom)
    shown = np.zeros((height, width))
    for front in range(index, len(scene.sprites)):
        drawn = patch_at(scene, front, tick, zoom=zoom)
        if drawn is None:
            continue
        (y, x), cover = _inside(drawn, height, width)
        if front == index:
            shown[y, x] = cover
        else:
            shown[y, x] *= 1 - cover
    rows, columns = np.flatnonzero((shown > 0.5).any(1)), np.flatnonzero((shown > 0.5).any(0))
    if not len(rows):
        return 0, 0, 0, 0
    sides = columns[0] / zoom, rows[0] / zoom, (columns[-1] + 1) / zoom, (rows[-1] + 1) / zoom
    return _thousandths(scene, sides)
