"""Clips as they are taught: drawn, often encoded, now and then behind the gate, with a key frame and what they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.capture.gate import Gate
from edge.capture.keyframe import KeyFrames
from edge.demo.world import Scene, Truth, draw_scene, frames, render, truth
from edge.demo.world.place import places
from edge.demo.world.sight import LISTED, NEAR
from edge.demo.world.truth import retold
from edge.records import Size
from export.demo.codec import round_trip
from export.demo.crowd import crowd
from export.demo.labels import (
    FPS,
    FRAME,
    NONE,
    PAIR_CLASSES,
    TOLD,
    cell_labels,
    pair_labels,
    pair_time,
    still_labels,
)
from export.demo.lessons import Lesson, lessons, where
from export.demo.schedule import Plan

CODED_SHARE: Final = 0.5
"""Of the clips go through the video encoder, as all do in use."""
_CHOSEN: Final = 0.7
"""Of key frames show the moment that the service would choose: somebody has just come and still moves, nearly always. At a
moment drawn by chance next to nothing moves, and where all stands, the clip's end tells as much as the key frame."""
_CLOSE: Final = 0.5
"""Of clips in which two come close show them then: whether they are next to each other is decided there."""
_ALIKE: Final = 0.4
"""Of clips that should show two, have two of one kind or of one colour, which are easily taken for each other."""
_GATHERED: Final = (2, 3, 4)
"""How many stand apart in a crowd that is asked where all is."""
_STAYED: Final = 0.5
"""Of clips without a key frame that should show two, show them at their end, of which boxes are asked. Where all did, those who had
left were told to stand where they stood before."""
_THRESHOLDS: Final = (0.25, 0.5, 1.0, 1.0, 1.5)
_TRIES: Final = 200


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A key frame: the picture, uint8, shape (h, w, 3), its tick, and what it shows, see `labels.still_labels`."""

    picture: NDArray[np.uint8]
    tick: int
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of the world.

    Attributes:
        frames: uint8, shape (pairs, 2, H, W, 3).
        kept: Which pairs of a minute these are told to be; of a crowd all.
        cells: See `labels.cell_labels`.
        happened: See `labels.pair_labels`; no rows for a crowd.
        lessons: What it is asked, one time after the other.
        still: The key frame; None where there is none.
    """

    frames: NDArray[np.uint8]
    kept: tuple[int, ...]
    cells: NDArray[np.int64]
    happened: NDArray[np.int64]
    lessons: tuple[tuple[Lesson, ...], ...]
    still: KeyFrame | None = None


def make_crowd(plan: Plan, rng: np.random.Generator, size: Size) -> Clip:
    """Draw pairs that have nothing to do with each other, of a key frame's size where the plan says so."""
    scene = crowd(
        int(rng.integers(2**62)), plan.stage, plan.pairs, fps=FPS, size=size if plan.still else FRAME
    )
    pictures = _pictures(scene, rng)
    none = np.zeros((0, len(PAIR_CLASSES)), np.int64)
    every = tuple(range(plan.pairs))
    return Clip(pictures, every, cell_labels(scene, every), none, ())


def make_gathering(plan: Plan, rng: np.random.Generator, size: Size) -> Clip:
    """Draw a crowd that is asked where all is at its key frame or, without one, at its end, where a few stand apart."""
    wanted = int(rng.choice(_GATHERED))
    for _ in range(_TRIES):
        scene = crowd(int(rng.integers(2**62)), plan.stage, plan.pairs, fps=FPS, size=FRAME)
        true = retold(truth(scene), ())
        possible = range(0, scene.ticks, 2) if plan.still else (scene.ticks - 1,)
        moments = [tick for tick in possible if _apart(true, tick) == wanted]
        if moments:
            break
    else:
        moments = list(possible)[-1:]
    pictures = _pictures(scene, rng)
    still = int(rng.choice(moments)) if plan.still else None
    every = tuple(range(plan.pairs))
    happened = pair_labels(true, every, first=plan.first)
    happened[:, TOLD] = NONE  # they come and go from one picture to the next, and nobody is told of it
    return Clip(
        pictures,
        tuple(plan.first + pair for pair in every),
        cell_labels(scene, every),
        happened,
        tuple((where(true, still, rng, full=plan.phase.full),) for _ in range(plan.phase.uses)),
        None if still is None else _key_frame(true, still, rng, plan.first, size),
    )


def _apart(true: Truth, tick: int) -> int:
    """Return how many can be seen, each by a name of its own and none behind another; else 0."""
    names = [seen.label for seen in true.sights(tick)]
    clear = len(names) == len(set(names)) and all(each.relation != "behind" for each in true.relations(tick))
    return len(names) if clear else 0


def make_clip(plan: Plan, rng: np.random.Generator, size: Size) -> Clip:
    """Draw one clip of the training split, with as many sprites as the plan allows and wants, and its key frame, of a size."""
    phase = plan.phase
    seen = 2 if rng.random() < phase.together else 0
    alike = seen > 0 and rng.random() < _ALIKE
    quiet = rng.random() < phase.quiet
    at_end = not plan.still and rng.random() < _STAYED
    for _ in range(_TRIES):
        seconds = 2 * plan.pairs / FPS
        scene = draw_scene(int(rng.integers(2**62)), plan.stage, seconds=seconds, fps=FPS, size=FRAME)
        if quiet:
            if truth(scene).events:
                continue
            moments = np.arange(plan.pairs)
            break
        if alike and not _two_alike(scene):
            continue
        shown = (places(scene).within >= LISTED).sum(0) >= seen  # enough at each tick
        moments = np.flatnonzero(shown[-1:] if at_end else shown[::2])
        if (phase.sprites is None or len(scene.sprites) <= phase.sprites) and len(moments):
            break
    pictures = _pictures(scene, rng)
    still = 2 * _moment(pictures, moments, _close(scene)[::2], rng) if plan.still else None
    kept = through_gate(pictures, rng) if plan.gated else tuple(range(plan.pairs))
    true = at_pairs(truth(scene), kept, first=plan.first)
    return Clip(
        pictures[list(kept)],
        tuple(plan.first + pair for pair in kept),
        cell_labels(scene, kept),
        pair_labels(true, kept, first=plan.first),
        tuple(
            lessons(true, rng, count=phase.questions, full=phase.full, still=still) for _ in range(phase.uses)
        )
        if phase.questions
        else (),
        None if still is None else _key_frame(true, still, rng, plan.first, size),
    )


def _two_alike(scene: Scene) -> bool:
    """Whether two sprites are of one kind or of one colour."""
    return any(
        one.kind == other.kind or one.colour == other.colour for one, other in combinations(scene.sprites, 2)
    )


def _close(scene: Scene) -> NDArray[np.bool_]:
    """Return at which ticks two that can be seen are at most twice as far apart as what is next to each other."""
    where = places(scene)
    side = min(scene.size.height, scene.size.width)
    found = np.zeros(scene.ticks, bool)
    for one, other in combinations(range(len(scene.sprites)), 2):
        first, second = where.boxes[one], where.boxes[other]
        gaps = np.maximum(first[:, :2], second[:, :2]) - np.minimum(first[:, 2:], second[:, 2:])
        found |= (where.within[[one, other]] >= LISTED).all(0) & (gaps.max(1) < 2 * NEAR * side)
    return found


def _moment(
    pictures: NDArray[np.uint8],
    moments: NDArray[np.int64],
    close: NDArray[np.bool_],
    rng: np.random.Generator,
) -> int:
    """Return the pair whose first picture is the key frame.

    Args:
        pictures: Of the whole clip, shape (pairs, 2, H, W, 3).
        moments: Pairs of which one may be drawn; where there is none, any.
        close: In which pairs two are close to each other.
        rng: Of the choice.
    """
    if close.any() and rng.random() < _CLOSE:
        return int(rng.choice(np.flatnonzero(close)))
    if rng.random() < _CHOSEN:
        looks = KeyFrames(FPS)
        return max(pair for pair, (first, _) in enumerate(pictures) if looks.see(first))
    return int(rng.choice(moments)) if len(moments) else int(rng.integers(len(pictures)))


def _key_frame(true: Truth, tick: int, rng: np.random.Generator, first: int, size: Size) -> KeyFrame:
    """Return a key frame as the service shows one: sharper than the clip, and as a camera's encoder left it."""
    picture = render(replace(true.scene, size=size), tick)
    coded = round_trip(picture[None], FPS, crf=int(rng.integers(16, 28)))
    return KeyFrame(coded[0], 2 * first + tick, still_labels(true, tick))


def through_gate(pictures: NDArray[np.uint8], rng: np.random.Generator) -> tuple[int, ...]:
    """Return which pairs, of shape (pairs, 2, H, W, 3), the gate keeps of a camera that it has never seen before.

    Its threshold is drawn: the governor raises it where work piles up.
    """
    _, _, height, width, _ = pictures.shape
    gate: Gate[int] = Gate(Size(height, width), fps=FPS, threshold=float(rng.choice(_THRESHOLDS)))
    last = len(pictures) - 1
    kept = [each for index, pair in enumerate(pictures) for each in gate.see(pair, index, last=index == last)]
    return tuple(each.item for each in kept + gate.end())


def at_pairs(true: Truth, kept: Sequence[int], *, first: int = 0) -> Truth:
    """Return the truth with every time moved to that of the nearest pair that is shown, in a clip that begins at ``first``.

    The model reads the time in front of each pair, so it can copy what it is to say; no frame inside a pair has a name, and
    of what begins in the same pair nobody can tell which came first: their words decide.
    """
    times = np.array([pair_time(index) for index in kept])

    def moved(at_s: float) -> float:
        return round(pair_time(first + kept[int(np.abs(times - at_s).argmin())]), 1)

    events = [replace(each, start_s=moved(each.start_s), end_s=moved(each.end_s)) for each in true.events]
    return retold(true, tuple(sorted(events, key=lambda each: (each.start_s, each.end_s, each.what))))


def _pictures(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    pictures = np.stack(list(frames(scene)))
    if rng.random() < CODED_SHARE:
        pictures = round_trip(pictures, FPS, crf=int(rng.integers(16, 28)))
    return pictures.reshape(-1, 2, *pictures.shape[1:])
