"""The grid of consecutive clips: which picture stands for which tick, pair by pair, as soon as it is certain.

Pure: pictures and times come in, pairs and counts go out. Time is in integer nanoseconds from the first tick of the
first clip, so that a picture that lies exactly on a tick is taken by it whatever the source's time base.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge.records import ClipStats, Span

NS = 1_000_000_000

# Silence longer than both of these is a gap. A camera at 1 FPS is slow but not away.
GAP_LIMIT_S = 1.0
GAP_LIMIT_TICKS = 2

# A picture this little after a tick still counts as being on it: start times and time bases are rounded.
SLACK_NS = 1_000

NOT_YET = "no picture yet"
NOTHING_NEW = "nothing new"
CAMERA_AWAY = "camera away"

P = TypeVar("P")


def ticks_in(seconds: float, fps: float) -> int:
    """Return how many ticks lie in [0, seconds): ``ceil(seconds * fps)``, forgiving the rounding of the product."""
    return math.ceil(seconds * fps - 1e-6)


@dataclass(frozen=True, slots=True)
class Grid:
    """Ticks at a fixed rate, cut into clips of equal length.

    Clip k holds the ticks ``k * ticks_per_clip`` to ``(k + 1) * ticks_per_clip - 1`` and covers the half-open time
    from its first tick to the first tick of clip k + 1: every moment lies in exactly one clip.
    """

    fps: float
    ticks_per_clip: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0 and self.ticks_per_clip > 0):
            raise ValueError(f"a grid needs a rate and a length, not {self.fps} and {self.ticks_per_clip}")

    def tick_ns(self, tick: int) -> int:
        """Return the time of a tick in nanoseconds, without the drift of adding up periods."""
        numerator, denominator = self.fps.as_integer_ratio()
        return tick * NS * denominator // numerator

    def gap_limit_ns(self) -> int:
        """Return the silence that is still no gap."""
        return max(int(GAP_LIMIT_S * NS), self.tick_ns(GAP_LIMIT_TICKS))


@dataclass(frozen=True, slots=True)
class Chosen(Generic[P]):
    """The pictures of one pair, not yet converted; ``clip``, ``index`` and ``time_s`` as in `edge.records.Pair`."""

    clip: int
    index: int
    time_s: float
    first: P
    second: P


@dataclass(frozen=True, slots=True)
class Done:
    """A clip is over. ``stats.decode_s`` is 0: the sampler has no clock."""

    clip: int
    stats: ClipStats


class Sampler(Generic[P]):
    """Chooses the picture of every tick over consecutive clips.

    A tick shows the last picture at or before it, by time and not by index, carried over from the clip before where
    needed. It is decided once a later picture has come (`offer`) or none before it can come any more (`advance`,
    `finish`). At most two pictures are held.

    Args:
        grid: The grid.
        first_tick: Where to begin, counted from the first clip; rounded down to a whole pair. Earlier ticks of that
            clip have been delivered before: they make no pairs and are not counted.
        hold_ns: For how long a picture stands when no other follows; None: for ever, as in a file.
    """

    def __init__(self, grid: Grid, *, first_tick: int = 0, hold_ns: int | None = None) -> None:
        self._grid = grid
        self._hold_ns = hold_ns
        self._clip, index = divmod(first_tick, grid.ticks_per_clip)
        self._tick = first_tick - index % 2
        self._picture: P | None = None
        self._begin_ns = grid.tick_ns(self._tick)  # what lies before it is not ours
        self._since_ns = self._begin_ns  # time of the newest picture, or where the wait for the first began
        self._until_ns: int | None = None  # the newest picture no longer stands from here on
        self._ever = False
        self._away = False
        self._empty_since = False  # a tick since the newest picture was empty
        self._fresh = False  # no tick has shown the newest picture yet
        self._half: P | None = None  # what the first tick of the pair in hand shows
        self._begin_clip()

    @property
    def clip(self) -> int:
        """The clip in hand."""
        return self._clip

    @property
    def next_ns(self) -> int:
        """Time of the next tick or end of clip to be decided."""
        return self._grid.tick_ns(self._tick)

    def offer(self, at_ns: int, picture: P) -> list[Chosen[P] | Done]:
        """Take a picture and return what it decides: all ticks before it, and clips that end at or before it.

        A picture older than the newest one is counted and not shown; of two at the same time the later one stands.
        """
        if self._ever and at_ns < self._since_ns:
            self._count(at_ns)
            return []
        out = self._run(at_ns)
        self._note_silence(at_ns, min(at_ns, self._end_ns))
        self._count(at_ns)
        self._picture, self._since_ns = picture, at_ns
        self._until_ns = None if self._hold_ns is None else at_ns + self._hold_ns
        self._ever, self._fresh, self._away, self._empty_since = True, True, False, False
        return out

    def advance(self, to_ns: int) -> list[Chosen[P] | Done]:
        """Decide what lies before ``to_ns``: no picture from before it will come, or it would come too late."""
        return self._run(to_ns)

    def away(self, at_ns: int) -> None:
        """Note that the source is lost: from here on the last picture no longer stands."""
        self._away = True
        self._until_ns = at_ns if self._until_ns is None else min(self._until_ns, at_ns)

    def skipped(self, pictures: int) -> None:
        """Count pictures that were decoded and dropped before they could be offered."""
        self._frames += pictures

    def finish(self, end_ns: int) -> list[Chosen[P] | Done]:
        """End the grid where the video ends; the clip in hand is closed with the length that it got.

        No clip is made of nothing: where the video ends with a clip, that clip is the last.
        """
        out = self._run(end_ns)
        if end_ns <= self._start_ns + SLACK_NS:
            return out
        while self._tick < self._last_tick and self._grid.tick_ns(self._tick) + SLACK_NS < end_ns:
            out.extend(self._decide())
        if self._tick > self._first_tick:
            if self._index % 2:
                out.extend(self._pair(self._half, None, self._index - 1, alone=True))
            out.append(self._close(end_ns, min(end_ns, self._end_ns)))
        return out

    def _run(self, to_ns: int) -> list[Chosen[P] | Done]:
        out: list[Chosen[P] | Done] = []
        while True:
            if self._tick == self._last_tick:
                if to_ns + SLACK_NS < self._end_ns:
                    return out
                out.append(self._close(to_ns, self._end_ns))
            elif self._grid.tick_ns(self._tick) + SLACK_NS < to_ns:
                out.extend(self._decide())
            else:
                return out

    @property
    def _index(self) -> int:
        return self._tick - self._first_tick

    def _begin_clip(self) -> None:
        self._first_tick = self._clip * self._grid.ticks_per_clip
        self._last_tick = self._first_tick + self._grid.ticks_per_clip
        self._start_ns = self._grid.tick_ns(self._first_tick)
        self._end_ns = self._grid.tick_ns(self._last_tick)
        self._frames = self._repeated = self._empty = self._pairs = self._late_ns = 0
        self._gaps: list[Span] = []

    def _count(self, at_ns: int) -> None:
        if at_ns + SLACK_NS >= max(self._start_ns, self._begin_ns):  # else it only carries over into the clip
            self._frames += 1

    def _decide(self) -> list[Chosen[P] | Done]:
        at_ns = self._grid.tick_ns(self._tick)
        shown = self._picture if self._until_ns is None or at_ns < self._until_ns else None
        if shown is None:
            self._empty += 1
            self._empty_since = True
        else:
            self._repeated += not self._fresh
            self._fresh = False
            self._late_ns = max(self._late_ns, at_ns - self._since_ns)
        index = self._index
        self._tick += 1
        if index % 2:
            return self._pair(self._half, shown, index - 1)
        if self._tick == self._last_tick:
            return self._pair(shown, None, index, alone=True)
        self._half = shown
        return []

    def _pair(
        self, first: P | None, second: P | None, index: int, *, alone: bool = False
    ) -> list[Chosen[P] | Done]:
        """Make the pair that begins at tick ``index`` of the clip; ``alone``: the clip ends with its first tick."""
        self._half = None
        first = second if first is None else first
        second = first if second is None else second
        if first is None or second is None:
            return []
        self._pairs += 1
        start_ns = self._grid.tick_ns(self._first_tick + index)
        other_ns = start_ns if alone else self._grid.tick_ns(self._first_tick + index + 1)
        time_s = ((start_ns + other_ns) / 2 - self._start_ns) / NS
        return [Chosen(self._clip, index // 2, time_s, first, second)]

    def _note_silence(self, known_ns: int, end_ns: int) -> None:
        """Record the silence from the newest picture to ``end_ns``, if it is a gap as far as is known."""
        begin_ns = max(self._since_ns, self._start_ns, self._begin_ns)
        long = known_ns - self._since_ns > self._grid.gap_limit_ns()
        if end_ns > begin_ns and (long or self._away or self._empty_since):
            reason = CAMERA_AWAY if self._away else NOTHING_NEW if self._ever else NOT_YET
            span = Span((begin_ns - self._start_ns) / NS, (end_ns - self._start_ns) / NS, reason)
            self._gaps.append(span)

    def _close(self, known_ns: int, end_ns: int) -> Done:
        self._note_silence(known_ns, end_ns)
        stats = ClipStats(
            seconds=(end_ns - self._start_ns) / NS,
            ticks=self._index,
            frames_decoded=self._frames,
            ticks_repeated=self._repeated,
            ticks_empty=self._empty,
            pairs=self._pairs,
            late_max_s=self._late_ns / NS,
            gaps=tuple(self._gaps),
            decode_s=0.0,
        )
        done = Done(self._clip, stats)
        self._clip += 1
        self._begin_clip()
        return done
