"""Which pairs of a clip are worth the model's time: the gate, one pass, in the capture process, before pixels travel.

Always kept: a clip's first and last pair, an anchor at the latest `ANCHOR_S` after the pair kept before, while
anything moves a pair every `MOVING_S`, and while anything moves at the picture's border, where several may come and go
at once, one every `SPACING_S`. Beyond these the gate looks for moments. Something *comes* where motion has no motion
before it to have come from, or only such as is far weaker (`SURGE`): what trembled, and now sets out. It
*goes* where motion ends and none goes on from it; at the border both are looked for again along the border alone, since
there somebody may come or go beside somebody who stays. What changed too slowly for that is found by comparing with
the pair kept last. Before something comes into a scene at rest, the pair before it is kept too.

For `EPISODE_S` after a scene was at rest, moments are shown closely: a kept pair also follows what comes, and another
comes before what goes or stops, `SPACING_S` away, so that when it was lies between two kept pairs that are no farther
apart. Where it goes on for longer, on a street that is never at rest, pairs are kept `BUSY` times as far apart.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.capture.change import Blocks, Comparer, Strength
from edge.records import Size

ANCHOR_S = 10.0  # a pair is kept at least so often, whatever happens; below threshold 1 more often
MOVING_S = 3.0  # at threshold 1, and so often while anything moves
SPACING_S = 0.5  # at threshold 1, how far apart pairs are that are kept around a moment or for the border
EPISODE_S = 10.0  # so long after the scene was at rest
BUSY = 2.0  # and so many times as far apart when it has not been at rest for longer
CAME = 1.5  # at threshold 1, how much must come: one block is worth up to `BLOCK_MOST`
CREPT = 4.0  # at threshold 1, how much must have changed unnoticed since the pair kept last
BLOCK_MOST = 2.0

REACH = 2  # pairs without motion until a block counts as at rest
LEAD = 2  # pairs before what goes or stops that may still be kept: `SPACING_S` at 8 FPS
HELD = REACH + LEAD  # pairs back that a decision may reach
FADED = 0.25  # motion that has fallen to this share of what it was is over, though a shadow may still move
FADING = 0.7  # of what it was, a pair later
SURGE = 4.4  # motion so many times as strong as any before it where it is and around it has set out anew: at 4 a busy street
# keeps more than a quarter, at 4.75 a car that sets out in a trembling picture is missed

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


@dataclass(frozen=True, slots=True)
class _Seen(Generic[P]):
    """A pair that may still be kept; ``index`` counts the pairs of the clip."""

    item: P
    index: int
    blocks: Blocks
    score: float


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
        self._held: deque[_Seen[P]] = deque(maxlen=HELD)  # not kept, and may be
        self._kept: _Seen[P] | None = None  # the pair kept last in this clip
        self._moved: NDArray[np.bool_] = np.zeros(self._comparer.grid, np.bool_)  # where anything moved since
        self._event: int | None = None  # index of the first pair that shows what no kept pair shows
        self._again: int | None = None  # index at which what has come is to be shown once more
        self._index = -1
        self._unrest = 0  # pairs since the scene was at rest, over the clips' ends

    def see(self, frames: NDArray[np.uint8], item: P, *, last: bool = False) -> list[Kept[P]]:
        """Decide about the next pair.

        Args:
            frames: Its pictures, uint8, shape (2, height, width, 3); any scaling will do, as long as it is the same.
            item: Stands for the pair in what is returned.
            last: Whether it is the last one of the full clip.

        Returns:
            What is kept from now on, in order; pairs up to `HELD` before this one may be among it.
        """
        now = [self._comparer.reduce(frame) for frame in frames]
        before = self._before or now[:1] * 2
        changes = np.maximum(*(self._comparer.learn(a, b) for a, b in zip(now, before, strict=True)))
        self._before = now
        calm = not self._everywhere.any
        came, went = self._everywhere.step(changes)
        came_in, went_out = self._border.step(changes)
        self._moved |= self._everywhere.recent
        self._index += 1
        self._unrest = 0 if calm else self._unrest + 1
        if self._kept is None:
            return [self._keep(_Seen(item, self._index, now[1], 1.0))]
        against = self._comparer.strength(now[1], self._kept.blocks)
        seen = _Seen(item, self._index, now[1], float((against > 1).mean()))
        crept = _weight(against, (against > 1) & ~_grown(self._moved))
        wanted = self._wanted(came, came_in, crept=crept, went=went, went_out=went_out, calm=calm)
        if last or self.threshold <= 0:
            wanted.add(self._index)
        out = [self._keep(each) for each in (*self._held, seen) if each.index in wanted]
        if self._kept.index != self._index:
            self._held.append(seen)
        return out

    def end(self) -> list[Kept[P]]:
        """End the clip: the last pair that was seen is kept, and the next one begins another clip."""
        out = [self._keep(self._held[-1])] if self._held else []
        self._kept = self._event = self._again = None
        self._index = -1
        return out

    def _wanted(
        self, came: float, came_in: float, *, crept: float, went: bool, went_out: bool, calm: bool
    ) -> set[int]:
        """Return the indices of the pairs that should be kept, this one or earlier ones."""
        assert self._kept is not None  # noqa: S101  # for the type checker
        now, last, least = self._index, self._kept.index, self.threshold
        silence = now - last
        fresh = self._unrest * self._pair_s <= EPISODE_S
        spacing = max(1, math.ceil((1.0 if fresh else BUSY) * SPACING_S * least / self._pair_s))
        wanted = set()
        if crept >= CREPT * least:
            wanted.add(now)
        if self._again is not None and now >= self._again:
            if silence >= spacing:
                wanted.add(now)
            self._again = None
        if came >= CAME * least:
            wanted.add(now)
            self._again = now + spacing if fresh else None
            if calm and silence > spacing:
                wanted.add(now - 1)
        events = [] if self._event is None else [self._event]
        if came_in >= CAME * least:
            events.append(now)
        if (went or went_out) and silence > REACH:  # else the pair kept last shows it gone
            events.append(now - REACH)
        if events:
            self._event = min(events)
            due = max(self._event, last + spacing)
            if due <= now:
                wanted.add(due)
                if went and fresh and due - last > spacing:
                    wanted.add(due - min(LEAD, spacing))
        limits_s = [self._anchor_s * min(1.0, least)]
        if self._everywhere.any:
            limits_s.append(MOVING_S * least)
        if silence * self._pair_s >= min(limits_s) or (self._border.any and silence >= spacing):
            wanted.add(now)
        return wanted

    def _keep(self, seen: _Seen[P]) -> Kept[P]:
        gated = 0 if self._kept is None else seen.index - self._kept.index - 1
        self._kept = seen
        self._moved = self._everywhere.recent.copy()
        if self._event is not None and self._event <= seen.index:
            self._event = None
        if seen.index == self._index:
            self._held.clear()
            self._everywhere.announce()
            self._border.announce()
        while self._held and self._held[0].index <= seen.index:
            self._held.popleft()
        return Kept(seen.item, seen.score, gated)


class _Tracks:
    """Where in a region something moves or moved a moment ago, and what of it a kept pair has shown."""

    def __init__(self, region: NDArray[np.bool_]) -> None:
        self._region = region
        self._age = np.full(region.shape, REACH, np.int8)  # pairs since the last motion
        self._peak = np.zeros(region.shape, np.float32)  # how strong motion was of late
        self._shown: NDArray[np.bool_] = np.zeros(region.shape, np.bool_)
        self.recent: NDArray[np.bool_] = np.zeros(region.shape, np.bool_)

    @property
    def any(self) -> bool:
        """Whether anything moves."""
        return bool(self.recent.any())

    def announce(self) -> None:
        """Note that a pair is kept which shows all that moves."""
        self._shown = self.recent.copy()

    def step(self, changes: Strength) -> tuple[float, bool]:
        """Take the changes of the next pair.

        Returns:
            How much moves that no kept pair has shown, and whether something went.
        """
        before = self.recent
        near = _grown(before)
        # What moved a moment ago is believed more easily to move on; a lone weak block is not believed.
        active = (changes > np.maximum(np.where(near, 0.6, 1.0), FADED * self._peak)) & self._region
        active &= (changes > 1.5) | (_neighbours(active) >= 1)
        # What only trembled, in a camera that shakes, and now moves, is as new as what was at rest.
        known = _flood(active & _grown(self._shown), active) & ~_surged(active, changes, self._peak)
        self._peak = np.maximum(changes, FADING * self._peak)
        came = _weight(changes, active & ~known)
        self._age = np.where(active, 0, np.minimum(self._age + 1, REACH)).astype(np.int8)
        self.recent = self._age < REACH
        self._shown = (self._shown | known) & self.recent
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


def _surged(active: NDArray[np.bool_], changes: Strength, peak: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return what hangs together and moves `SURGE` times as strongly as anything did of late where it is and beside it.

    Who walks on takes the place of an edge that moved as strongly before; who sets out among what trembles does not.

    Args:
        active: Where anything moves now, shape (rows, columns) of blocks.
        changes: How strongly, in units of each block's own noise, the same shape.
        peak: How strong motion was of late, before now, the same shape.

    Returns:
        Where motion has set out, the same shape.
    """
    found = np.zeros_like(active)
    rest = np.where(active, changes, 0)
    while (strongest := float(rest.max())) > SURGE:  # weaker, and what was there was no motion
        whole = _flood(rest == strongest, active)
        if strongest > SURGE * float(peak[_grown(whole)].max()):
            found |= whole
        rest[whole] = 0
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
