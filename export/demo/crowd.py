"""Scenes for learning to see: a crowd that is another one in every pair of pictures, so each pair teaches many cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from edge.demo.world import Scene, Sprite, Stage
from edge.demo.world.chance import Chance
from edge.demo.world.draw import SIZES
from edge.demo.world.ground import GROUNDS
from edge.demo.world.look import choose_look
from edge.demo.world.scene import Key
from edge.demo.world.vocabulary import KINDS
from edge.records import Size

_CROWD: Final = 106  # names the draws
_MOST: Final = 5  # in one pair
_STILL: Final = 0.35  # share of those that stand
_SPEEDS: Final = (0.12, 0.6)  # shares of the picture a second; stories that are short of time hurry
_MARGIN: Final = 0.06  # so far beyond the edge a centre may lie
_WAYS: Final = {"left": (1, 0), "right": (-1, 0), "top": (0, 1), "bottom": (0, -1), "none": (0, 0)}
_MOTIONS: Final = ("left", "right", "top", "bottom")


def crowd(seed: int, stage: Stage, pairs: int, *, fps: float, size: Size | None = None) -> Scene:
    """Draw a scene of which no two pairs show the same sprites; combinations that are held out never occur.

    Args:
        seed: Any whole number >= 0.
        stage: Decides the size of the pictures.
        pairs: Pairs of pictures.
        fps: Pictures per second.
        size: Of the pictures; None takes the stage's own.
    """
    chance = Chance(seed, _CROWD)
    scene = Scene(
        seed=seed,
        stage=stage,
        split="train",
        seconds=2 * pairs / fps,
        fps=fps,
        size=size or SIZES[stage],
        background=chance.choice(GROUNDS),
        sprites=(),
        noise=chance.between(1.0, 6.0),
        drift=chance.choice((0.0, 0.04, 0.1)),
        shake=chance.choice((0.0, 0.0, 0.008)),
    )
    members = [
        _member(scene, chance, 2 * pair / fps, 1.9 / fps)
        for pair in range(pairs)
        for _ in range(chance.below(_MOST + 1))
    ]
    return replace(scene, sprites=tuple(sprite for sprite in members if sprite))


def _member(scene: Scene, chance: Chance, at_s: float, span_s: float) -> Sprite | None:
    """Return a sprite that is there for one pair, or None where chance hit a combination that is held out."""
    motion = "none" if chance.yes(_STILL) else chance.choice(_MOTIONS)
    look = choose_look(scene, chance, KINDS, (motion,))
    x, y = (chance.between(-_MARGIN, 1 + _MARGIN) for _ in range(2))
    reach = chance.between(*_SPEEDS) * span_s
    faces_left = chance.yes(0.5)
    if look is None:
        return None
    across, down = (reach * way for way in _WAYS[motion])
    path = Key(at_s, x, y), Key(at_s + span_s, x + across, y + down)
    return look.sprite(path, faces_left=faces_left)
