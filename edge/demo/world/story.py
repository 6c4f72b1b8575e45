"""What one sprite does in a clip: comes, goes, stays, moves, drifts, flashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from edge.demo.world.chance import Chance
from edge.demo.world.look import Look
from edge.demo.world.scene import Key, Scene
from edge.demo.world.vocabulary import Stage

Point = tuple[float, float]
Tell = Callable[[Scene, Look, Chance], list[Key]]

SIDES: Final = ("left", "left", "left", "right", "right", "right", "top", "bottom")
"""Where newcomers come from; most of what cameras see comes from the left or the right."""
OPPOSITE: Final = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}

_SPEEDS: Final = (0.28, 0.6)  # shares of the picture a second
_DRIFTS: Final = (0.012, 0.03)
_OUT: Final = 0.01  # this far outside is out
_EDGE: Final = 0.03  # what stays inside keeps this far from the picture's edge
_AFTER: Final = 1.0  # seconds beyond the clip's end


@dataclass(frozen=True, slots=True)
class Story:
    """A story of one sprite.

    Attributes:
        motions: Where its hero may come from.
        tell: Makes the path.
        seconds: It needs at least so long a clip.
    """

    motions: tuple[str, ...]
    tell: Tell
    seconds: float


def somewhere(look: Look, chance: Chance) -> Point:
    """Return a place where the whole sprite is inside the picture."""
    x, y = (chance.between(half + _EDGE, 1 - half - _EDGE) for half in look.half)
    return x, y


def outside(look: Look, side: str, at: Point) -> Point:
    """Return the place just outside a side of the picture, level with a point."""
    x, y = at
    half_x, half_y = look.half
    return {
        "left": (-half_x - _OUT, y),
        "right": (1 + half_x + _OUT, y),
        "top": (x, -half_y - _OUT),
        "bottom": (x, 1 + half_y + _OUT),
    }[side]


def dwell(scene: Scene, chance: Chance) -> float:
    """Return how long somebody stands, seconds."""
    return chance.between(1.2, 1.2 + min(20.0, 0.3 * scene.seconds))


def schedule(
    scene: Scene,
    chance: Chance,
    points: Sequence[Point],
    waits: Sequence[float],
    *,
    speed: float | None = None,
) -> list[tuple[float, float]]:
    """Return when somebody arrives at and departs from each of a row of points.

    Args:
        scene: The scene; what would take longer than it is sped up.
        chance: Where the beginning and the speed come from.
        points: Where it goes.
        waits: How long it stands at each, seconds.
        speed: Shares of the picture a second.
    """
    pace = chance.between(*_SPEEDS) if speed is None else speed
    ways = [max(abs(x2 - x1), abs(y2 - y1)) / pace for (x1, y1), (x2, y2) in pairwise(points)]
    margin = min(0.6, 0.1 * scene.seconds)
    room = scene.seconds - 2 * margin
    total = sum(ways) + sum(waits)
    squeeze = min(1.0, room / total)
    at = margin + chance.unit() * (room - total * squeeze)
    times = []
    for wait, way in zip(waits, [*ways, 0.0], strict=True):
        times.append((at, at + wait * squeeze))
        at += (wait + way) * squeeze
    return times


def path(
    scene: Scene,
    points: Sequence[Point],
    times: Sequence[tuple[float, float]],
    *,
    before: bool = False,
    after: bool = False,
) -> list[Key]:
    """Return the keys of a journey.

    Args:
        scene: The scene.
        points: Where it goes.
        times: When it arrives and departs.
        before: It is at the first point from the clip's start.
        after: It stays at the last point to the clip's end.
    """
    keys = [Key(0.0, *points[0])] if before else []
    for point, (arrive, depart) in zip(points, times, strict=True):
        keys.append(Key(arrive, *point))
        if depart > arrive:
            keys.append(Key(depart, *point))
    if after:
        keys.append(Key(scene.seconds + _AFTER, *points[-1]))
    return keys


def _middle(look: Look, chance: Chance) -> Point:
    """Return a place to stop at, well away from the edge it comes from."""
    x, y = somewhere(look, chance)
    if look.motion in {"left", "right"}:
        return chance.between(0.25, 0.75), y
    return x, chance.between(max(0.3, look.half[1] + _EDGE), min(0.7, 1 - look.half[1] - _EDGE))


def _pass(scene: Scene, look: Look, chance: Chance) -> list[Key]:
    at = somewhere(look, chance)
    points = [outside(look, look.motion, at), outside(look, OPPOSITE[look.motion], at)]
    return path(scene, points, schedule(scene, chance, points, [0, 0]))


def _visit(scene: Scene, look: Look, chance: Chance) -> list[Key]:
    at = _middle(look, chance)
    goes = chance.choice((look.motion, OPPOSITE[look.motion]))
    points = [outside(look, look.motion, at), at, outside(look, goes, at)]
    return path(scene, points, schedule(scene, chance, points, [0, dwell(scene, chance), 0]))


def _arrive(scene: Scene, look: Look, chance: Chance) -> list[Key]:
    at = _middle(look, chance)
    points = [outside(look, look.motion, at), at]
    return path(scene, points, schedule(scene, chance, points, [0, 0]), after=True)


def _depart(scene: Scene, look: Look, chance: Chance) -> list[Key]:
    at = somewhere(look, chance)
    points = [at, outside(look, chance.choice(SIDES), at)]
    return path(scene, points, schedule(scene, chance, points, [0, 0]), before=True)


def _shift(scene: Scene, look: Look, chance: Chance) -> list[Key]:
    points = _leg(look, chance)
    return path(scene, points, schedule(scene, chance, points, [0, 0]), before=True, after=True)


def _roam(scene: Scene, look: Look, chance: Chance) -> list[Key]:
    """Move from the first picture on."""
    points = _leg(look, chance)
    times = schedule(scene, chance, points, [0, 0])
    return path(scene, points, [(at - times[0][0], at - times[0][0]) for at, _ in times], after=True)


def _go(scene: Scene, look: Look, chance: Chance) -> list[Key]:
    """Leave from the first picture on."""
    at = somewhere(look, chance)
    points = [at, outside(look, chance.choice(SIDES), at)]
    times = schedule(scene, chance, points, [0, 0])
    return path(scene, points, [(at - times[0][0], at - times[0][0]) for at, _ in times])


def _still(scene: Scene, look: Look, chance: Chance) -> list[Key]:
    return path(scene, [somewhere(look, chance)], [(0.0, 0.0)], after=True)


def _drift(scene: Scene, look: Look, chance: Chance) -> list[Key]:
    """Move slowly all the time."""
    _, y = somewhere(look, chance)
    length = min(chance.between(*_DRIFTS) * scene.seconds, 0.98 - 2 * (look.half[0] + _EDGE))
    begin = chance.between(look.half[0] + _EDGE, 1 - look.half[0] - _EDGE - length)
    ends = [(begin, y), (begin + length, y)]
    if chance.yes(0.5):
        ends.reverse()
    return path(scene, ends, [(0.0, 0.0), (scene.seconds + 1 / scene.fps, scene.seconds + 1 / scene.fps)])


def _flash(scene: Scene, look: Look, chance: Chance) -> list[Key]:
    """Be there for two pictures."""
    tick = 1 + chance.below(max(1, scene.ticks - 4))
    at = somewhere(look, chance)
    return [Key(tick / scene.fps, *at), Key((tick + 2) / scene.fps, *at)]


def _leg(look: Look, chance: Chance) -> list[Point]:
    """Return two places on a level or on a plumb line, some way apart."""
    x, y = somewhere(look, chance)
    along = 0 if chance.yes(0.75) else 1
    low, high = look.half[along] + _EDGE, 1 - look.half[along] - _EDGE
    length = chance.between(0.4, 0.9) * (high - low)
    begin = chance.between(low, high - length)
    ends = [(begin, y), (begin + length, y)] if along == 0 else [(x, begin), (x, begin + length)]
    if chance.yes(0.5):
        ends.reverse()
    return ends


STORIES: Final[dict[str, Story]] = {
    "pass": Story(SIDES, _pass, 0.5),
    "visit": Story(SIDES, _visit, 4.0),
    "arrive": Story(SIDES, _arrive, 0.5),
    "depart": Story(("none",), _depart, 1.0),
    "shift": Story(("none",), _shift, 2.0),
    "roam": Story(("none",), _roam, 1.0),
    "go": Story(("none",), _go, 1.0),
    "still": Story(("none",), _still, 0.0),
    "drift": Story(("none",), _drift, 6.0),
    "flash": Story(("none",), _flash, 0.5),
}

_ORDINARY: Final = (
    "pass",
    "pass",
    "visit",
    "visit",
    "arrive",
    "arrive",
    "depart",
    "shift",
    "roam",
    "go",
    "still",
)
_RARE: Final = ("drift", "drift", "flash", "flash")


def tellable(stage: Stage, seconds: float) -> list[Story]:
    """Return the stories of a stage that fit a clip, some of them several times: the likelier ones."""
    names = _ORDINARY + (_RARE if stage == "c" else ())
    return [STORIES[name] for name in names if STORIES[name].seconds <= seconds]
