"""Scenes drawn by chance: who comes, from where, and what they do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product
from typing import Final

from edge.demo.world.chance import Chance
from edge.demo.world.couple import COUPLE_S, COUPLES
from edge.demo.world.event import events, overlapping
from edge.demo.world.ground import GROUNDS
from edge.demo.world.look import Troupe, choose_look
from edge.demo.world.place import places
from edge.demo.world.scene import Scene, seed_key
from edge.demo.world.story import STORIES, tellable
from edge.demo.world.vocabulary import KINDS, Split, Stage
from edge.messages import MAX_EVENTS
from edge.records import Size

SECONDS: Final[dict[Stage, tuple[float, ...]]] = {
    "a": (4.0, 6.0, 8.0, 10.0, 12.0, 16.0),
    "b": (60.0,),
    "c": (60.0,),
}
"""Usual lengths."""
SIZES: Final[dict[Stage, Size]] = {"a": Size(96, 128), "b": Size(96, 128), "c": Size(128, 192)}
"""Size of the pictures where none is asked for; both sides multiples of 32, the model's cell."""

_MOST: Final[dict[Stage, int]] = {"a": 2, "b": 2, "c": 4}  # sprites
_EMPTY: Final = 0.12  # share of scenes in which nothing happens
_TOGETHER: Final = 0.7  # share of stage c in which two do something together
_LED: Final = 0.5  # share of held-out scenes with a combination that training never holds
_TRIES: Final = 30
_GAP: Final = 0.02  # of the picture's shorter side, between sprites that have nothing to do with each other
_APART_S: Final = 0.5  # before stage c two sprites' events have this much time between them


def draw_scene(
    seed: int,
    stage: Stage,
    *,
    seconds: float | None = None,
    fps: float = 8.0,
    size: Size | None = None,
    split: Split = "train",
) -> Scene:
    """Draw a scene; equal arguments give an equal scene on every machine.

    Args:
        seed: Any whole number >= 0. The same number is another scene in another stage or split.
        stage: The stage.
        seconds: Length, at least 0.5; None draws one that is usual in the stage.
        fps: Pictures per second.
        size: Size of the pictures; None takes the stage's own.
        split: ``held_out`` lets in combinations of kind, colour and motion that ``train`` never holds
            (`vocabulary.held_out`); about every second of its scenes has one.

    Returns:
        The scene, with at most `MAX_EVENTS` events.
    """
    chance = Chance(*seed_key(seed, stage, split))
    usual = chance.choice(SECONDS[stage])
    scene = Scene(
        seed=seed,
        stage=stage,
        split=split,
        seconds=usual if seconds is None else seconds,
        fps=fps,
        size=size or SIZES[stage],
        background=chance.choice(GROUNDS),
        sprites=(),
        noise=chance.between(1.0, 6.0),
        drift=chance.choice((0.0, 0.04, 0.1)),
        shake=chance.choice((0.0, 0.0, 0.008)),
    )
    if chance.yes(_EMPTY):
        for _ in range(chance.below(_MOST[stage])):
            scene = _joined(scene, _still(scene, chance))
        return scene
    wanted = 1 + chance.below(_MOST[stage])
    led = split == "held_out" and chance.yes(_LED)
    if stage == "c" and scene.seconds >= COUPLE_S and chance.yes(_TOGETHER):
        scene = _joined(scene, _together(scene, chance), led=led)
    while len(scene.sprites) < wanted:
        before = scene
        scene = _joined(scene, _alone(scene, chance), led=led and not scene.novel)
        if scene is before:
            break
    return scene


def _still(scene: Scene, chance: Chance) -> Iterator[Troupe]:
    """Yield attempts at a sprite that only stands there."""
    story = STORIES["still"]
    for _ in range(_TRIES):
        look = choose_look(scene, chance, KINDS, story.motions)
        faces_left = chance.yes(0.5)
        if look is not None:
            yield Troupe((look.sprite(story.tell(scene, look, chance), faces_left=faces_left),))


def _alone(scene: Scene, chance: Chance) -> Iterator[Troupe]:
    """Yield attempts at a sprite with a story of its own."""
    stories = tellable(scene.stage, scene.seconds)
    for _ in range(_TRIES * 4):
        story = chance.choice(stories)
        look = choose_look(scene, chance, KINDS, story.motions)
        faces_left = chance.yes(0.5)
        if look is not None:
            yield Troupe((look.sprite(story.tell(scene, look, chance), faces_left=faces_left),))


def _together(scene: Scene, chance: Chance) -> Iterator[Troupe]:
    """Yield attempts at one story of two."""
    couple = COUPLES[chance.choice(tuple(COUPLES))]
    for _ in range(_TRIES * 4):
        troupe = couple(scene, chance)
        if troupe is not None:
            yield troupe


def _joined(scene: Scene, attempts: Iterator[Troupe], *, led: bool = False) -> Scene:
    """Return the scene with the first newcomers that fit in, or as it was.

    Args:
        scene: The scene.
        attempts: Newcomers.
        led: Prefer newcomers that bring in a combination that is held out.
    """
    spare: Scene | None = None
    for troupe in attempts:
        grown = replace(scene, sprites=(*scene.sprites, *troupe.sprites))
        if (led and not grown.novel and spare) or not _fits(grown, len(scene.sprites), troupe):
            continue
        if grown.novel or not led:
            return grown
        spare = grown
    return spare or scene


def _fits(scene: Scene, before: int, troupe: Troupe) -> bool:
    """Whether newcomers keep out of the others' way, show what they should, and leave room in the list of events."""
    where = places(scene)
    gap = _GAP * min(scene.size.height, scene.size.width)
    pairs = product(range(before), range(before, len(scene.sprites)))
    if any(overlapping(where, one, other, gap).any() for one, other in pairs):
        return False
    happened = events(scene)
    if len(happened) > MAX_EVENTS:
        return False
    if scene.stage != "c" and any(
        one.sprite != other.sprite and other.start_s - one.end_s < _APART_S
        for one, other in pairwise(happened)
    ):
        return False
    return troupe.shows is None or any(event.kind == troupe.shows for event in happened)
