"""What happens in a scene, observed from where everything is at every tick, whatever the scene was drawn to show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from edge.demo.world.pictogram import Patch, patch
from edge.demo.world.place import Places, places
from edge.demo.world.scene import EPSILON_S, Scene, Sprite
from edge.demo.world.vocabulary import a

EventKind = Literal[
    "enter", "leave", "move", "start", "stop", "flash", "hide", "reappear", "cross", "pick up", "put down"
]

SEEN: Final = (
    0.15  # share of its area from which on a sprite counts as seen: less is a sliver that nobody could name
)
WHOLE: Final = 0.9  # share from which on it counts as wholly seen
FLASH_TICKS: Final = 3  # what is there for longer is no flash
SLOW: Final = 0.05  # shares of the picture a second; what is slower is called slow
HIDDEN: Final = 0.1  # what shows less of itself beside what is in front counts as hidden
HIDDEN_S: Final = 0.5  # what is covered for less only passes behind

_MOVING: Final = 1e-9  # shares of the picture


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens.

    Attributes:
        kind: What sort of event.
        sprite: Who does it, an index into ``Scene.sprites``.
        other: To whom, behind what, or with whom.
        start_s: When it begins, seconds from the clip's start, to a tenth.
        end_s: When it is over; the same for what takes no time.
        does: What it does, without its name: "enters from the left".
        what: The same with its name: "a red car enters from the left".
    """

    kind: EventKind
    sprite: int
    other: int | None
    start_s: float
    end_s: float
    does: str
    what: str


@dataclass(frozen=True, slots=True)
class _Move:
    """A stretch of time in which a sprite does not stand still, of its own."""

    start_s: float
    end_s: float
    way: str
    slow: bool


def events(scene: Scene) -> tuple[Event, ...]:
    """Return what happens, in order of time."""
    found: list[Event] = []
    where = places(scene)
    for index, sprite in enumerate(scene.sprites):
        found += _comings(scene, where, index)
        found += _moves(scene, where, index)
        found += _carries(scene, where, index, sprite)
    for back, front in combinations(range(len(scene.sprites)), 2):
        found += _meetings(scene, where, back, front)
    found = [event for event in found if not (event.kind in {"start", "stop"} and _hidden(event, found))]
    return tuple(sorted(found, key=lambda event: (event.start_s, event.end_s, event.sprite)))


def _hidden(event: Event, among: list[Event]) -> bool:
    """Whether the sprite of an event is behind something at that time, so that nobody can see it happen."""
    for hide in among:
        if hide.kind == "hide" and hide.sprite == event.sprite and hide.end_s <= event.start_s:
            back = [
                other.start_s
                for other in among
                if other.kind == "reappear" and other.sprite == event.sprite and other.start_s > hide.end_s
            ]
            if not back or event.start_s <= min(back):
                return True
    return False


def _event(
    scene: Scene,
    kind: EventKind,
    index: int,
    span_s: tuple[float, float],
    does: str,
    *,
    other: int | None = None,
) -> Event:
    # No time can be written beyond the last tenth of a second that the clip has.
    last_s = math.floor(scene.seconds * 10 + EPSILON_S) / 10
    start, end = (min(round(at, 1), last_s) for at in span_s)
    return Event(kind, index, other, start, end, does, f"{a(scene.sprites[index].label)} {does}")


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first and last place of every run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.view(np.int8), [0]])))
    return [(int(first), int(past) - 1) for first, past in edges.reshape(-1, 2)]


def _comings(scene: Scene, where: Places, index: int) -> list[Event]:
    """Return entering, leaving and flashing."""
    found: list[Event] = []
    sprite = scene.sprites[index]
    seen, wholly = _with_load(scene, where, index)
    last = scene.ticks - 1
    for first, final in _runs(seen):
        if final - first < FLASH_TICKS and wholly[first : final + 1].all():
            span = first / scene.fps, (final + 1) / scene.fps
            found.append(_event(scene, "flash", index, span, "flashes"))
            continue
        whole = np.flatnonzero(wholly[first : final + 1]) + first
        if first > 0 and sprite.carrier_at(first / scene.fps) is None:
            until = int(whole[0]) if len(whole) else final
            side = _side(where.boxes[index, first], scene)
            does = f"{_slowly(sprite, first / scene.fps)}enters from the {side}{_load(scene, index, first)}"
            found.append(_event(scene, "enter", index, (first / scene.fps, until / scene.fps), does))
        if final < last and sprite.carrier_at(final / scene.fps) is None:
            since = min(int(whole[-1]) + 1, final) if len(whole) else first
            side = _side(where.boxes[index, final], scene)
            way = {"left": "to the left", "right": "to the right"}.get(side, f"at the {side}")
            does = f"{_slowly(sprite, final / scene.fps)}leaves {way}{_load(scene, index, final)}"
            found.append(_event(scene, "leave", index, (since / scene.fps, final / scene.fps), does))
    return found


def _with_load(scene: Scene, where: Places, index: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return when anything and when all can be seen of a sprite and what it carries, each of shape (ticks,)."""
    seen, wholly = where.within[index] >= SEEN, where.within[index] >= WHOLE
    times = np.arange(scene.ticks) / scene.fps
    for load, sprite in enumerate(scene.sprites):
        for carry in sprite.carried:
            if carry.carrier == index:
                held = (times >= carry.start_s) & (times < carry.end_s)
                seen |= held & (where.within[load] >= SEEN)
                wholly &= ~held | (where.within[load] >= WHOLE)
    return seen, wholly


def _side(box: NDArray[np.float64], scene: Scene) -> str:
    """Return the edge of the picture over which a box reaches farthest."""
    x1, y1, x2, y2 = box.tolist()
    over = {"left": -x1, "right": x2 - scene.size.width, "top": -y1, "bottom": y2 - scene.size.height}
    return max(over, key=over.__getitem__)


def _load(scene: Scene, index: int, tick: int) -> str:
    """Return what a carrier holds in its hands, as the end of a sentence."""
    held = [sprite.label for sprite in scene.sprites if sprite.carrier_at(tick / scene.fps) == index]
    return f" with {a(held[0])}" if held else ""


def _slowly(sprite: Sprite, at_s: float) -> str:
    return "slowly " if any(move.slow and move.start_s <= at_s < move.end_s for move in _own(sprite)) else ""


def _own(sprite: Sprite) -> list[_Move]:
    """Return when a sprite moves without being carried; straight on is one move, a turn begins another."""
    found: list[_Move] = []
    for before, after in pairwise(sprite.path):
        across, down, took = after.x - before.x, after.y - before.y, after.at_s - before.at_s
        if took <= EPSILON_S or max(abs(across), abs(down)) <= _MOVING:
            continue
        if sprite.carrier_at(before.at_s) is not None:
            continue
        if abs(across) >= abs(down):
            way = "to the right" if across > 0 else "to the left"
        else:
            way = "down" if down > 0 else "up"
        slow = max(abs(across), abs(down)) / took < SLOW
        found.append(_Move(before.at_s, after.at_s, way, slow))
    return found


def _moves(scene: Scene, where: Places, index: int) -> list[Event]:
    """Return moving from the clip's start on, starting and stopping."""
    found: list[Event] = []
    sprite, seen = scene.sprites[index], where.within[index] >= SEEN
    moves = _own(sprite)
    for number, move in enumerate(moves):
        before = moves[number - 1] if number else None
        after = moves[number + 1] if number + 1 < len(moves) else None
        slowly = "slowly " if move.slow else ""
        if move.start_s <= EPSILON_S and seen[0]:
            # Moving ends where it stops, or where leaving begins.
            wholly = np.flatnonzero(where.within[index] >= WHOLE) / scene.fps
            inside = wholly[wholly <= move.end_s]
            stays = _wholly_at(scene, where, index, move.end_s)
            until = move.end_s if stays else float(inside[-1]) if len(inside) else 0.0
            found.append(_event(scene, "move", index, (0.0, until), f"moves {slowly}{move.way}"))
        elif (
            _seen_at(scene, seen, move.start_s)
            and (before is None or before.end_s < move.start_s - EPSILON_S)
            and move.start_s > sprite.path[0].at_s + EPSILON_S
        ):
            does = f"starts moving {slowly}{move.way}"
            found.append(_event(scene, "start", index, (move.start_s, move.start_s), does))
        if (
            move.end_s < scene.seconds - 1 / scene.fps
            and _seen_at(scene, seen, move.end_s)
            and (after is None or after.start_s > move.end_s + EPSILON_S)
            and move.end_s < sprite.path[-1].at_s - EPSILON_S
        ):
            found.append(_event(scene, "stop", index, (move.end_s, move.end_s), "stops"))
    return found


def _seen_at(scene: Scene, seen: NDArray[np.bool_], at_s: float) -> bool:
    tick = int(at_s * scene.fps + EPSILON_S)
    return 0 <= tick < scene.ticks and bool(seen[tick])


def _wholly_at(scene: Scene, where: Places, index: int, at_s: float) -> bool:
    tick = min(int(at_s * scene.fps + EPSILON_S), scene.ticks - 1)
    return bool(where.within[index, tick] >= WHOLE)


def _carries(scene: Scene, where: Places, index: int, sprite: Sprite) -> list[Event]:
    """Return when a sprite is picked up and put down, told of its carrier."""
    found: list[Event] = []
    seen = where.within[index] >= SEEN
    kinds: tuple[EventKind, EventKind] = ("pick up", "put down")
    for carry in sprite.carried:
        for kind, verb, at_s in zip(
            kinds, ("picks up", "puts down"), (carry.start_s, carry.end_s), strict=True
        ):
            if EPSILON_S < at_s < scene.seconds and _seen_at(scene, seen, at_s):
                does = f"{verb} {a(sprite.label)}"
                found.append(_event(scene, kind, carry.carrier, (at_s, at_s), does, other=index))
    return found


def _meetings(scene: Scene, where: Places, back: int, front: int) -> list[Event]:
    """Return passing, told of the one in front, and hiding and reappearing of the one behind."""
    if any(carry.carrier == back for carry in scene.sprites[front].carried):
        return []
    overlap = overlapping(where, back, front)
    if not overlap.any():
        return []
    found: list[Event] = []
    for first, final in _runs(overlap):
        if _opposite(where, back, front, first, final):
            span = first / scene.fps, final / scene.fps
            does = f"passes {a(scene.sprites[back].label)}"
            found.append(_event(scene, "cross", front, span, does, other=back))
        else:
            found += _hidings(scene, back, front, (first, final))
    return found


def overlapping(where: Places, one: int, other: int, gap_px: float = 0.0) -> NDArray[np.bool_]:
    """Return at which ticks the boxes of two sprites come closer than a gap, shape (ticks,)."""
    first, second = where.boxes[one], where.boxes[other]
    near = (np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])) > -gap_px
    found: NDArray[np.bool_] = near.all(1)
    return found


def _opposite(where: Places, one: int, other: int, first: int, final: int) -> bool:
    """Whether two sprites change sides, left and right, between two ticks."""
    before = where.boxes[one, first, 0] + where.boxes[one, first, 2] - where.boxes[other, first, [0, 2]].sum()
    after = where.boxes[one, final, 0] + where.boxes[one, final, 2] - where.boxes[other, final, [0, 2]].sum()
    moved = [where.boxes[index, final, 0] - where.boxes[index, first, 0] for index in (one, other)]
    return bool(before * after < 0 and moved[0] * moved[1] < 0)


def _hidings(scene: Scene, back: int, front: int, ticks: tuple[int, int]) -> list[Event]:
    first, final = ticks
    clear = np.array([uncovered(scene, back, front, tick) for tick in range(first, final + 1)])
    found: list[Event] = []
    name = a(scene.sprites[front].label)
    for begin, end in _runs(clear < HIDDEN):
        if (end - begin + 1) / scene.fps < HIDDEN_S:
            continue
        before = np.flatnonzero(clear[:begin] >= WHOLE)
        span = (first + (int(before[-1]) + 1 if len(before) else 0)) / scene.fps, (first + begin) / scene.fps
        found.append(_event(scene, "hide", back, span, f"hides behind {name}", other=front))
        if first + end < scene.ticks - 1:
            later = np.flatnonzero(clear[end + 1 :] >= WHOLE)
            until = end + 1 + int(later[0]) if len(later) else len(clear) - 1
            span = (first + end + 1) / scene.fps, (first + until) / scene.fps
            found.append(_event(scene, "reappear", back, span, f"reappears from behind {name}", other=front))
    return found


def patch_at(scene: Scene, index: int, tick: int, *, zoom: float = 1.0) -> Patch | None:
    """Return how a sprite covers the pixels of a picture of ``zoom`` times the size, or None where it is absent."""
    where = places(scene)
    box = where.box(index, tick)
    if box is None:
        return None
    x1, y1, x2, y2 = (side * zoom for side in box)
    mirrored = bool(where.mirrored[index, tick])
    return patch(scene.sprites[index].kind, mirrored=mirrored, box=(x1, y1, x2, y2))


def uncovered(scene: Scene, back: int, front: int, tick: int) -> float:
    """Return the share of a sprite's area that another one in front of it leaves to be seen."""
    hidden, hiding = (patch_at(scene, index, tick) for index in (back, front))
    if hidden is None or hiding is None:
        return 1.0
    top, left = max(hidden.top, hiding.top), max(hidden.left, hiding.left)
    bottom = min(hidden.top + hidden.cover.shape[0], hiding.top + hiding.cover.shape[0])
    right = min(hidden.left + hidden.cover.shape[1], hiding.left + hiding.cover.shape[1])
    if top >= bottom or left >= right:
        return 1.0
    below = hidden.cover[top - hidden.top : bottom - hidden.top, left - hidden.left : right - hidden.left]
    above = hiding.cover[top - hiding.top : bottom - hiding.top, left - hiding.left : right - hiding.left]
    return float(1 - (below * above).sum() / hidden.cover.sum())
