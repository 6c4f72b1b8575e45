"""A world of one coloured square, with the interface of the demo's: small enough to learn something of in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.records import Size

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 230)}
RADIUS = 14
CELL = 32
CELL_CLASSES: Sequence[int] = (1 + len(COLOURS),)


@dataclass(frozen=True)
class Sprite:
    colour: str
    x: int
    y: int


@dataclass(frozen=True)
class Scene:
    seed: int
    size: Size
    ticks: int
    sprites: tuple[Sprite, ...]


@dataclass(frozen=True)
class Truth:
    size: Size
    sprites: tuple[Sprite, ...]
    cells: NDArray[np.int64]


def draw_scene(seed: int, stage: str, *, seconds: float, fps: float, size: Size, split: str) -> Scene:
    rng = np.random.default_rng([seed, len(stage), len(split)])
    sprite = Sprite(
        str(rng.choice(list(COLOURS))),
        int(rng.integers(RADIUS, size.width - RADIUS)),
        int(rng.integers(RADIUS, size.height - RADIUS)),
    )
    shown = (sprite,) if rng.random() < 0.8 else ()
    return Scene(seed, size, round(seconds * fps), shown)


def render(scene: Scene, tick: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng([scene.seed, tick])
    frame = rng.integers(90, 120, (scene.size.height, scene.size.width, 3), np.uint8)
    for sprite in scene.sprites:
        rows = slice(sprite.y - RADIUS, sprite.y + RADIUS)
        frame[rows, sprite.x - RADIUS : sprite.x + RADIUS] = COLOURS[sprite.colour]
    return frame


def truth(scene: Scene) -> Truth:
    shape = (scene.ticks // 2, scene.size.height // CELL, scene.size.width // CELL, 1)
    cells = np.zeros(shape, np.int64)
    for sprite in scene.sprites:
        cells[:, sprite.y // CELL, sprite.x // CELL] = 1 + list(COLOURS).index(sprite.colour)
    return Truth(scene.size, scene.sprites, cells)


def answer(truth: Truth, kind: str) -> dict[str, Any]:
    said = f"a {truth.sprites[0].colour} square stands there" if truth.sprites else "nothing happens"
    if kind == "summary":
        return {"headline": said, "summary": f"{said}.", "events": []}
    boxes = [
        {"label": f"{sprite.colour} square", "bbox_2d": _box(sprite, truth.size)} for sprite in truth.sprites
    ]
    return {"headline": said, "objects": boxes, "relations": []}


def questions(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str]]:
    colour = str(rng.choice(list(COLOURS)))
    there = any(sprite.colour == colour for sprite in scene.sprites)
    return [
        (f"Is there a {colour} square?", "yes" if there else "no"),
        ("How many?", str(len(scene.sprites))),
    ]


def _box(sprite: Sprite, size: Size) -> list[int]:
    edges = [
        (sprite.x - RADIUS) / size.width,
        (sprite.y - RADIUS) / size.height,
        (sprite.x + RADIUS) / size.width,
        (sprite.y + RADIUS) / size.height,
    ]
    return [round(1000 * edge) for edge in edges]
