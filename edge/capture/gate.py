"""Which pairs of a clip are worth the model's time: the gate, one pass, in the capture process, before pixels travel.

Always kept: a clip's first and last pair, an anchor at the latest `ANCHOR_S` after the pair kept before, and, while
anything moves, a pair every `MOVING_S`. Beyond these the gate looks for moments. Something *comes* where motion has no
motion before it to have come from, and *goes* where motion ends and none goes on from it; at the picture's border both
are looked for again along the border alone, since there somebody may come or go beside somebody who stays. What changed
too slowly for that is found by comparing with the pair kept last. Before something comes out of stillness, the pair
before it is kept too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.capture.change import Blocks, Comparer
from edge.records import Size

ANCHOR_S = 10.0  # a pair is kept at least so often, whatever happens
MOVING_S = 2.5  # at threshold 1, and so often while anything moves
SPACING_S = 0.5  # at threshold 1, least time between two pairs kept for what goes or for the border
STILL_S = 1.0  # at threshold 1, what comes after so long a silence brings the pair before it along
CAME = 0.6  # at threshold 1, how much must come: one block is worth up to `BLOCK_MOST`
CREPT = 2.0  # at threshold 1, how much must have changed unnoticed since the pair kept last
BLOCK_MOST = 2.0

_QUIET = 2  # pairs without motion until a block counts as at rest

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Kept(Generic[P]):
    """A pair that the gate lets through.

    Attributes:
        item: What was handed in with it.
        score: How much had changed since the pair kept before, as a share of the picture, 0..1: 1 for the first one.
        gated: Pairs dropped since the pair kept before.
    """

    item: P
    score: float
    gated: int


class Gate(Generic[P]):
    """Decides for the pairs of one camera, clip after clip; what it learnt of the camera's noise goes on.

    Args:
        size: Of the pictures that `see` is shown.
        fps: Ticks per second.
        threshold: 1 is the default; larger values keep fewer pairs, 0 keeps all. May be changed between clips.
        anchor_s: Longest time without a kept pair.
    """

    def __init__(self, size: Size, *, fps: float, threshold: float = 1.0, anchor_s: float = ANCHOR_S) -> None:
        self.threshold = threshold
        self._comparer = Comparer(size)
        self._pair_s = 2 / fps
        self._anchor_s = anchor_s
        self._everywhere = _Tracks(np.ones(self._comparer.grid, np.bool_))
        self._border = _Tracks(_ring(self._comparer.grid))
        self._before: list[Blocks] = []  # the two pictures of the pair before
        self._kept: Blocks | None = None  # the second picture of the pair kept last in this clip
        self._moved: NDArray[np.bool_] = np.zeros(
            self._comparer.grid, np.bool_
        )  # where anything moved since then
        self._since = 0  # pairs since then
        self._gated = 0  # of these, those that are surely dropped
        self._wanted = False  # something went, and its time has not come
        self._held: tuple[P, Blocks, float] | None = None  # the pair before, if not kept

    def see(self, frames: NDArray[np.uint8], item: P, *, last: bool = False) -> list[Kept[P]]:
        """Decide about the next pair.

        Args:
            frames: Its pictures, uint8, shape (2, height, width, 3); any scaling will do, as long as it is the same.
            item: Stands for the pair in what is returned.
            last: Whether it is the last one of the full clip.

        Returns:
            What is kept from now on, in order: nothing, this pair, or the pair before and this one.
        """
        now = [self._comparer.reduce(frame) for frame in frames]
        before = self._before or now[:1] * 2
        changes = np.maximum(*(self._comparer.learn(a, b) for a, b in zip(now, before, strict=True)))
        self._before = now
        came, went = self._everywhere.step(changes)
        came_in, went_out = self._border.step(changes)
        self._since += 1
        if self._kept is None or self.threshold <= 0 or last:
            return [self._keep(item, now[1], self._score(now[1]))]
        self._moved |= self._everywhere.recent
        against = self._comparer.strength(now[1], self._kept)
        score = float((against > 1).mean())
        silence_s = self._since * self._pair_s
        threshold = self.threshold
        crept = _weight(against, (against > 1) & ~_grown(self._moved))
        new = came >= CAME * threshold
        self._wanted |= went or went_out or came_in >= CAME * threshold
        out: list[Kept[P]] = []
        if new and silence_s > max(STILL_S * threshold, 2 * self._pair_s) and self._held is not None:
            held, blocks, held_score = self._held
            self._since -= 1
            out.append(self._keep(held, blocks, held_score))
            self._since = 1
        if (
            out
            or new
            or crept >= CREPT * threshold
            or (self._wanted and silence_s >= SPACING_S * threshold)
            or (self._everywhere.any and silence_s >= MOVING_S * threshold)
            or silence_s >= self._anchor_s
        ):
            return [*out, self._keep(item, now[1], score)]
        self._held = item, now[1], score
        return out

    def end(self) -> list[Kept[P]]:
        """End the clip: the last pair that was seen is kept, and the next one begins another clip."""
        out = [] if self._held is None else [self._keep(self._held[0], self._held[1], self._held[2])]
        self._kept = self._held = None
        self._wanted = False
        self._since = 0
        return out

    def _score(self, blocks: Blocks) -> float:
        return 1.0 if self._kept is None else float((self._comparer.strength(blocks, self._kept) > 1).mean())

    def _keep(self, item: P, blocks: Blocks, score: float) -> Kept[P]:
        gated = 0 if self._kept is None else self._since - 1
        self._kept = blocks
        self._moved = self._everywhere.recent.copy()
        self._since = 0
        self._wanted = False
        self._held = None
        return Kept(item, score, gated)


class _Tracks:
    """Where in a region something moves or moved a moment ago."""

    def __init__(self, region: NDArray[np.bool_]) -> None:
        self._region = region
        self._age = np.full(region.shape, _QUIET + 1, np.int8)  # pairs since the last motion
        self.recent: NDArray[np.bool_] = np.zeros(region.shape, np.bool_)

    @property
    def any(self) -> bool:
        """Whether anything moves."""
        return bool(self.recent.any())

    def step(self, changes: NDArray[np.float32]) -> tuple[float, bool]:
        """Take the changes of the next pair.

        Returns:
            How much came out of nowhere, and whether something went.
        """
        before = self.recent
        near = _grown(before) & self._region
        # What moved a moment ago is believed more easily to move on; a lone weak block is not believed.
        active = (changes > np.where(near, 0.6, 1.0)) & self._region
        active &= (changes > 1.5) | (_neighbours(active) >= 1)
        known = _flood(active & near, active)
        came = _weight(changes, active & ~known)
        self._age = np.where(active, 0, np.minimum(self._age + 1, _QUIET + 1)).astype(np.int8)
        self.recent = self._age < _QUIET
        ended = before & ~self.recent
        alive = _flood(self.recent, (before | self.recent) & self._region)
        return came, bool((ended & ~_grown(alive)).any())


def _ring(grid: tuple[int, int]) -> NDArray[np.bool_]:
    found = np.ones(grid, np.bool_)
    found[1:-1, 1:-1] = False
    return found


def _weight(changes: NDArray[np.float32], among: NDArray[np.bool_]) -> float:
    return float(np.minimum(changes[among] - 1, BLOCK_MOST).sum())


def _grown(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return flags and their eight neighbours."""
    wide = flags.copy()
    wide[1:] |= flags[:-1]
    wide[:-1] |= flags[1:]
    found = wide.copy()
    found[:, 1:] |= wide[:, :-1]
    found[:, :-1] |= wide[:, 1:]
    return found


def _neighbours(flags: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return how many of the four neighbours are set."""
    found = np.zeros(flags.shape, np.int8)
    found[1:] += flags[:-1]
    found[:-1] += flags[1:]
    found[:, 1:] += flags[:, :-1]
    found[:, :-1] += flags[:, 1:]
    return found


def _flood(seeds: NDArray[np.bool_], within: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what of ``within`` hangs together with the seeds."""
    found = seeds & within
    count = -1
    while (now := int(found.sum())) != count:
        count = now
        found = _grown(found) & within
    return found
