"""What the auxiliary heads are taught, in whole numbers: what lies in each cell, and what has happened by each pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from edge.demo.world import Event, EventKind, Scene, Truth
from edge.demo.world.place import places
from edge.demo.world.sight import LISTED, owners
from edge.demo.world.vocabulary import COLOURS, KINDS
from edge.messages import MAX_EVENTS
from edge.records import Size

FPS: Final = 8.0
CAMERA: Final = Size(240, 320)
"""Of the camera's pictures, from stage b on; clips and key frames are shown smaller."""
FRAME: Final = Size(96, 128)
"""Of a clip's pictures as they are shown: what the demo model's limits make of a minute of that camera."""
FINE: Final = 4
"""A cell is cut into FINE x FINE parts, in each of which something lies or not: what a box rests on."""
WAYS: Final = ("still", "right", "left", "down", "up")
"""How what lies in a cell moves from the first picture of a pair to the second."""
CELL_CLASSES: Final = (1 + len(KINDS), 1 + len(COLOURS), 1 + len(WAYS))
"""Values of a cell's first labels: kind, colour, way; 0 for none."""
BOX_STEP: Final = 20
"""Of the sides of boxes in training, thousandths of the picture."""
BOX_CLASSES: Final = (1 + 1000 // BOX_STEP,) * 4
"""Values of the sides of a box, each a class of its own as it is a token of its own, so that it can be copied."""
CELL_WIDTH: Final = len(CELL_CLASSES) + FINE**2 + len(BOX_CLASSES)
"""Labels of a cell: its classes, which parts are taken, and the sides of the box of what lies in it."""
_VERBS: Final = get_args(EventKind)
_SIDES: Final = ("left", "right", "top", "bottom", "up", "down")
_EVENT: Final = (1 + MAX_EVENTS, 1 + len(_VERBS), 1 + len(KINDS), 1 + len(COLOURS), 1 + len(_SIDES))
PAIRS: Final = 240
"""Of a minute; a pair's number stands for its time."""
_SIGHT: Final = (1 + len(KINDS), 1 + len(COLOURS), *BOX_CLASSES)
SIGHTS: Final = 3
"""Of so many sprites a pair's labels tell where they are."""
PAIR_CLASSES: Final = (PAIRS, *_EVENT, *_EVENT, 1 + len(KINDS), PAIRS, PAIRS, *_SIGHT * SIGHTS)
"""Values of a pair's labels: its time; of the event that began last and of the one that ended last which one it is, verb,
kind, colour and side; how many sprites can be seen; when the one began and when the other ended, so that a number that is
asked for leads to its time wherever one looks; and kind, colour and the sides of the box of each sprite that can be seen,
in the order in which answers name them."""
NONE: Final = -1
"""A label of which nothing is known: no box of what is not there."""
TOLD: Final = slice(1, len(PAIR_CLASSES) - SIGHTS * len(_SIGHT))
"""Where among a pair's labels stands what a clip has told by then."""
BEGUN: Final = slice(1, 1 + len(_EVENT))
"""Where among a pair's labels the event that began last stands."""
_SLACK_S: Final = 0.06  # half of the last digit of a written time
_MOVES_PX: Final = 0.75  # what moves less within a pair is not seen to move


def cell_labels(scene: Scene, pairs: Iterable[int]) -> NDArray[np.int64]:
    """Return what lies in each cell in the second picture of each of some pairs.

    Returns:
        Shape (pairs * cells of a pair, `CELL_WIDTH`).
    """
    where = places(scene)
    own = where.boxes - np.tile(where.shake[:, ::-1], 2)[None]  # without the camera's shake
    size = np.array([scene.size.width, scene.size.height] * 2, np.float64)
    kinds = np.array([*(1 + KINDS.index(sprite.kind) for sprite in scene.sprites), 0])
    colours = np.array([*(1 + COLOURS.index(sprite.colour) for sprite in scene.sprites), 0])
    found = []
    for pair in pairs:
        first, second = 2 * pair, 2 * pair + 1
        owner, taken = owners(scene, second, parts=FINE)
        flat = owner.reshape(-1)
        steps = (
            np.nan_to_num(own[:, second, :2] - own[:, first, :2]) if len(scene.sprites) else np.zeros((0, 2))
        )
        ways = np.array([*(1 + _way(across, down) for across, down in steps), 0])
        boxes = np.zeros((len(scene.sprites) + 1, len(BOX_CLASSES)), np.int64)
        shown = np.clip(np.nan_to_num(where.boxes[:, second]) / size, 0, 1)
        boxes[:-1] = np.rint(1000 / BOX_STEP * shown)
        found.append(
            np.concatenate(
                [
                    np.stack([kinds[flat], colours[flat], ways[flat]], axis=1),
                    taken.reshape(len(flat), FINE**2),
                    boxes[flat],
                ],
                axis=1,
                dtype=np.int64,
            )
        )
    return np.concatenate(found)


def _way(across: float, down: float) -> int:
    if max(abs(across), abs(down)) < _MOVES_PX:
        return WAYS.index("still")
    if abs(across) >= abs(down):
        return WAYS.index("right" if across > 0 else "left")
    return WAYS.index("down" if down > 0 else "up")


def pair_time(index: int) -> float:
    """Return the time that a pair's timestamp tells, seconds."""
    return (2 * index + 0.5) / FPS


def pair_labels(true: Truth, kept: Sequence[int], *, first: int = 0) -> NDArray[np.int64]:
    """Return what has happened by each pair.

    Args:
        true: Of the clip, its events told at the times of pairs.
        kept: Which pairs are shown.
        first: The pair whose time the clip's first one has.

    Returns:
        Shape (pairs, len(`PAIR_CLASSES`)).
    """
    where = places(true.scene)
    numbers = range(len(true.events))
    by_end = sorted(numbers, key=lambda number: (true.events[number].end_s, number))
    rows = []
    for pair in kept:
        time_s = pair_time(first + pair)
        begun = [number for number in numbers if true.events[number].start_s <= time_s + _SLACK_S]
        ended = [number for number in by_end if true.events[number].end_s <= time_s + _SLACK_S]
        seen = int((where.within[:, 2 * pair + 1] >= LISTED).sum())
        rows.append(
            [
                _pair(time_s),
                *_last(true, begun),
                *_last(true, ended),
                min(seen, len(KINDS)),
                _pair(true.events[begun[-1]].start_s) if begun else 0,
                _pair(true.events[ended[-1]].end_s) if ended else 0,
                *sight_labels(true, 2 * pair + 1),
            ]
        )
    return np.array(rows, np.int64)


def still_labels(true: Truth, tick: int) -> NDArray[np.int64]:
    """Return what a key frame shows, in the places of a pair's labels; of what happened it tells nothing."""
    sights = sight_labels(true, tick)
    return np.array([*[NONE] * (len(PAIR_CLASSES) - len(sights)), *sights], np.int64)


def sight_labels(true: Truth, tick: int) -> list[int]:
    """Return kind, colour and the sides of the box of each of the first `SIGHTS` sprites that can be seen in a picture."""
    found: list[int] = []
    for seen in true.sights(tick)[:SIGHTS]:
        sprite = true.scene.sprites[seen.sprite]
        found += [1 + KINDS.index(sprite.kind), 1 + COLOURS.index(sprite.colour)]
        found += [round(side / BOX_STEP) for side in seen.box]
    while len(found) < SIGHTS * len(_SIGHT):
        found += [0, 0, *[NONE] * len(BOX_CLASSES)]
    return found


def _pair(time_s: float) -> int:
    """Return the number of the pair whose time is written so."""
    return min(round((time_s * FPS - 0.5) / 2), PAIRS - 1)


def _last(true: Truth, numbers: list[int]) -> tuple[int, ...]:
    if not numbers:
        return (0,) * len(_EVENT)
    number = numbers[-1]
    event: Event = true.events[number]
    sprite = true.scene.sprites[event.sprite]
    words = event.does.split()
    side = next((1 + _SIDES.index(word) for word in reversed(words) if word in _SIDES), 0)
    return (
        1 + number,
        1 + _VERBS.index(event.kind),
        1 + KINDS.index(sprite.kind),
        1 + COLOURS.index(sprite.colour),
        side,
    )
