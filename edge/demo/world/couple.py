"""What two sprites do together: hide behind, pass, bring and take away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from edge.demo.world.chance import Chance
from edge.demo.world.look import Look, Troupe, choose_look
from edge.demo.world.scene import Carry, Key, Scene
from edge.demo.world.story import OPPOSITE, Point, dwell, outside, path, schedule, somewhere
from edge.demo.world.vocabulary import KINDS

Couple = Callable[[Scene, Chance], Troupe | None]

_SIDEWAYS: Final = ("left", "right")
_SOLID: Final = ("car", "square", "circle")  # what one can hide behind
_SLIM: Final = ("person", "dog", "parcel", "triangle", "circle", "square", "bicycle")
_LIFT_S: Final = (
    0.6  # for lifting and for setting down, seconds; at most a quarter of the time that a carrier stands
)


def hide(scene: Scene, chance: Chance) -> Troupe | None:
    """Somebody goes behind something that stands there, stays for a while and comes out again."""
    front = choose_look(scene, chance, _SOLID, ("none",), side=chance.between(0.4, 0.5))
    back = choose_look(scene, chance, _SLIM, _SIDEWAYS, side=chance.between(0.17, 0.24))
    if front is None or back is None or front.colour == back.colour:
        return None
    if any(small > 0.62 * big for small, big in zip(back.half, front.half, strict=True)):
        return None
    place = chance.between(0.35, 0.65), somewhere(front, chance)[1]
    points = [
        outside(back, back.motion, place),
        place,
        outside(back, chance.choice(_SIDEWAYS), place),
    ]
    times = schedule(scene, chance, points, [0, 1.5 + dwell(scene, chance), 0])
    hidden = back.sprite(path(scene, points, times))
    still = path(scene, [place], [(0.0, 0.0)], after=True)
    return Troupe((hidden, front.sprite(still, faces_left=chance.yes(0.5))), "hide")


def cross(scene: Scene, chance: Chance) -> Troupe | None:
    """Two come from the left and from the right and pass each other."""
    one = choose_look(scene, chance, KINDS, ("left",))
    other = choose_look(scene, chance, KINDS, ("right",))
    if one is None or other is None or one.colour == other.colour:
        return None
    if chance.yes(0.5):
        one, other = other, one
    _, level = somewhere(max(one, other, key=lambda look: look.half[1]), chance)
    begin: float | None = None
    troupe = []
    for look in (one, other):
        ground = level + chance.between(-0.03, 0.03)
        points = [outside(look, look.motion, (0, ground)), outside(look, OPPOSITE[look.motion], (0, ground))]
        times = schedule(scene, chance, points, [0, 0])
        # The second one sets out about when the first one does.
        late = (
            0.0
            if begin is None
            else begin - times[0][0] + chance.between(0, 0.3) * (times[1][0] - times[0][0])
        )
        begin = times[0][0] if begin is None else begin
        if times[1][0] + late > scene.seconds - 0.4 or times[0][0] + late < 0.3:
            return None
        troupe.append(look.sprite(path(scene, points, [(at + late, at + late) for at, _ in times])))
    return Troupe(tuple(troupe), "cross")


def bring(scene: Scene, chance: Chance) -> Troupe | None:
    """A person comes with a parcel, puts it down and leaves."""
    side = chance.choice(_SIDEWAYS)
    pair = _porter(scene, chance, side, side)
    if pair is None:
        return None
    person, parcel = pair
    points, times = _errand(scene, chance, person)
    arrive, depart = times[1]
    hand, floor = _hands(person, parcel)
    down = arrive + (depart - arrive) * 0.5
    lowered = down - min(_LIFT_S, (depart - arrive) / 4)
    keys = [
        *(_moved(key, hand) for key in path(scene, points, times)[:2]),
        Key(lowered, *_sum(points[1], hand)),
        Key(down, *_sum(points[1], floor)),
        Key(scene.seconds + 1.0, *_sum(points[1], floor)),
    ]
    carry = Carry(len(scene.sprites), 0.0, down)
    thing = replace(parcel.sprite(keys), carried=(carry,))
    return Troupe((person.sprite(path(scene, points, times)), thing), "put down")


def take(scene: Scene, chance: Chance) -> Troupe | None:
    """A person comes to a parcel, picks it up and leaves with it."""
    pair = _porter(scene, chance, chance.choice(_SIDEWAYS), "none")
    if pair is None:
        return None
    person, parcel = pair
    points, times = _errand(scene, chance, person)
    arrive, depart = times[1]
    hand, floor = _hands(person, parcel)
    grasp = arrive + (depart - arrive) * 0.5
    lifted = grasp + min(_LIFT_S, (depart - arrive) / 4)
    end, _ = times[2]
    keys = [
        Key(0.0, *_sum(points[1], floor)),
        Key(grasp, *_sum(points[1], floor)),
        Key(lifted, *_sum(points[1], hand)),
        Key(depart, *_sum(points[1], hand)),
        Key(end, *_sum(points[2], hand)),
    ]
    carry = Carry(len(scene.sprites), grasp, scene.seconds + 1.0)
    thing = replace(parcel.sprite(keys), carried=(carry,))
    return Troupe((person.sprite(path(scene, points, times)), thing), "pick up")


def _porter(scene: Scene, chance: Chance, side: str, motion: str) -> tuple[Look, Look] | None:
    person = choose_look(scene, chance, ("person",), (side,), side=chance.between(0.24, 0.32))
    parcel = choose_look(scene, chance, ("parcel",), (motion,), side=chance.between(0.15, 0.19))
    return None if person is None or parcel is None or person.colour == parcel.colour else (person, parcel)


def _errand(scene: Scene, chance: Chance, person: Look) -> tuple[list[Point], list[tuple[float, float]]]:
    """Return where and when a person comes, stands and leaves."""
    at = chance.between(0.3, 0.7), somewhere(person, chance)[1]
    leaves = chance.choice(_SIDEWAYS)
    # Far enough outside that what is carried is outside too.
    far = 0.2 if leaves == "right" else -0.2
    x, y = outside(person, leaves, at)
    begin_x, begin_y = outside(person, person.motion, at)
    begin = begin_x + (0.2 if person.motion == "right" else -0.2), begin_y
    points = [begin, at, (x + far, y)]
    return points, schedule(scene, chance, points, [0, 1.8 + dwell(scene, chance), 0])


def _hands(person: Look, parcel: Look) -> tuple[Point, Point]:
    """Return where a parcel is, seen from the person's centre: in the hands, and on the floor beside the feet."""
    ahead = 1 if person.motion == "left" else -1
    x = ahead * (person.half[0] + 0.8 * parcel.half[0])
    return (x, 0.05 * person.half[1]), (x, person.half[1] - parcel.half[1])


def _sum(one: Point, other: Point) -> Point:
    return one[0] + other[0], one[1] + other[1]


def _moved(key: Key, by: Point) -> Key:
    return Key(key.at_s, key.x + by[0], key.y + by[1])


COUPLES: Final[dict[str, Couple]] = {"hide": hide, "cross": cross, "bring": bring, "take": take}
COUPLE_S: Final = 10.0
"""Such stories need at least so long a clip, seconds."""
