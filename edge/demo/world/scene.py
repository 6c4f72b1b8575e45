"""A scene: everything that is in a clip and where it is when, exactly; no pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.demo.world.chance import Chance
from edge.demo.world.vocabulary import Split, Stage, held_out
from edge.records import Size

EPSILON_S = 1e-6
_SHAKE = 101  # names the draws of the camera's shake


@dataclass(frozen=True, slots=True)
class Key:
    """A sprite's centre at a moment.

    Attributes:
        at_s: Seconds from the clip's start.
        x: Share of the picture's width, 0 at the left; beyond 0..1 it is outside.
        y: Share of the picture's height, 0 at the top.
    """

    at_s: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Carry:
    """A sprite is in the hands of another in [start_s, end_s)."""

    carrier: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Sprite:
    """One thing in the world.

    Attributes:
        kind: One of `vocabulary.KINDS`.
        colour: One of `vocabulary.COLOURS`.
        motion: One of `vocabulary.MOTIONS`.
        side: Square root of the area of its box, as a share of the picture's shorter side.
        path: Where it is; straight between the keys, absent before the first and from the last one on.
        faces_left: Which way it looks if it never moves.
        carried: When it is carried.
    """

    kind: str
    colour: str
    motion: str
    side: float
    path: tuple[Key, ...]
    faces_left: bool = False
    carried: tuple[Carry, ...] = ()

    @property
    def label(self) -> str:
        """Its name, which no other sprite of the scene has."""
        return f"{self.colour} {self.kind}"

    def carrier_at(self, at_s: float) -> int | None:
        """Return who carries it at a moment."""
        return next((c.carrier for c in self.carried if c.start_s <= at_s + EPSILON_S < c.end_s), None)


@dataclass(frozen=True, slots=True)
class Scene:
    """A clip before it is rendered.

    Attributes:
        seed: What it was drawn from, with ``stage`` and ``split``.
        stage: The stage.
        split: ``train`` scenes hold no combination that `vocabulary.held_out` names.
        seconds: Length.
        fps: Pictures per second.
        size: Size of the pictures.
        background: One of `ground.GROUNDS`.
        sprites: What is in it, from the back to the front.
        noise: Standard deviation of the sensor noise, levels of 255.
        drift: How far the light strays, as a share of it.
        shake: How far the camera strays, as a share of the picture's shorter side.
    """

    seed: int
    stage: Stage
    split: Split
    seconds: float
    fps: float
    size: Size
    background: str
    sprites: tuple[Sprite, ...]
    noise: float
    drift: float
    shake: float

    @property
    def ticks(self) -> int:
        """Number of pictures."""
        return max(1, round(self.seconds * self.fps))

    @property
    def key(self) -> tuple[int, ...]:
        """Whole numbers that name the scene, for draws that belong to it."""
        return seed_key(self.seed, self.stage, self.split)

    @property
    def novel(self) -> bool:
        """Whether it holds a combination that never occurs in training."""
        return any(held_out(sprite.kind, sprite.colour, sprite.motion) for sprite in self.sprites)

    @property
    def shake_px(self) -> int:
        """The farthest that the camera strays, pixels; 0 only for a camera at rest."""
        return max(1, round(self.shake * min(self.size.height, self.size.width))) if self.shake else 0


def seed_key(seed: int, stage: Stage, split: Split) -> tuple[int, ...]:
    """Return the numbers that name a scene: the same seed is another scene in another split or stage."""
    return (seed, ("a", "b", "c").index(stage), ("train", "held_out").index(split))


def positions(sprite: Sprite, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a sprite's centre at given times.

    Args:
        sprite: The sprite.
        times_s: Shape (n,), seconds.

    Returns:
        Shape (n, 2), x and y in shares of the picture; NaN where it is absent.
    """
    at = np.array([key.at_s for key in sprite.path])
    found = np.stack(
        [
            np.interp(times_s, at, [key.x for key in sprite.path]),
            np.interp(times_s, at, [key.y for key in sprite.path]),
        ],
        axis=1,
    )
    absent = (times_s < at[0] - EPSILON_S) | (times_s >= at[-1] - EPSILON_S)
    found[absent] = np.nan
    return found


def shake(scene: Scene) -> NDArray[np.int64]:
    """Return how far the camera has strayed at every tick, shape (ticks, 2), pixels down and to the right."""
    limit = scene.shake_px
    found = np.zeros((scene.ticks, 2), np.int64)
    if limit:
        draws = Chance(*scene.key, _SHAKE).array(scene.ticks, 2)
        step = (draws > 0.9).astype(np.int64) - (draws < 0.1)
        at = np.zeros(2, np.int64)
        for tick in range(scene.ticks):
            at = np.clip(at + step[tick], -limit, limit)
            found[tick] = at
    return found
