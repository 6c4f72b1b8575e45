"""One camera's time and one clip as the supervisor holds it: pairs received, gaps, UTC; pure, no clock, no process.

A clip is half-open on the camera's grid. What its capture process says of it is believed, except for what the
supervisor knows better: a process that was replaced in mid-clip cannot tell what its predecessor delivered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from edge.messages import SkipReason
from edge.records import ClipPlan, ClipStats, Pair, Prompt, Size, Span, Still

STEP_S = 0.05  # the wall clock may part from the anchored time by this much before the next clip follows it
CAPTURE_RESTARTED = "capture restarted"
NO_REPORT = "no report from capture"
PAUSED = "paused"
_GOT, _GATED = 1, 2  # what became of a pair; 0: nothing came
CLOCK_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of both clocks.

    Attributes:
        mono_ns: CLOCK_MONOTONIC, ns.
        utc_ns: Wall clock, ns since 1970.
        synced: Whether the kernel calls the wall clock synchronised.
    """

    mono_ns: int
    utc_ns: int
    synced: bool


class Timeline:
    """Says at which UTC each clip of one camera begins.

    A wall-paced camera has one anchor between the two clocks, held over clips so that their times touch exactly, and
    moved only at a clip's beginning once the wall clock was set by more than `STEP_S`. A file read at full speed has
    media time: each clip begins where the one before ended.

    Args:
        origin_mono_ns: CLOCK_MONOTONIC of tick 0 of clip ``first_seq``.
        seconds: Full length of a clip.
        paced: Whether the grid follows the clock.
    """

    def __init__(self, *, origin_mono_ns: int, first_seq: int, seconds: float, paced: bool) -> None:
        self.origin_mono_ns = origin_mono_ns
        self.first_seq = first_seq
        self.paced = paced
        self._length = timedelta(seconds=seconds)
        self._length_ns = round(seconds * 1e9)
        self._base: datetime | None = None
        self._touch: datetime | None = None

    def start_mono_ns(self, seq: int) -> int:
        """Return CLOCK_MONOTONIC of tick 0 of clip ``seq`` of a wall-paced camera."""
        return self.origin_mono_ns + (seq - self.first_seq) * self._length_ns

    def end_mono_ns(self, seq: int) -> int:
        """Return CLOCK_MONOTONIC of the end of clip ``seq`` of a wall-paced camera."""
        return self.start_mono_ns(seq + 1)

    def begin(self, seq: int, now: Now) -> tuple[datetime, float]:
        """Return the UTC of tick 0 of clip ``seq`` and by how many seconds the anchor had to step for it (usually 0)."""
        if not self.paced:
            if self._touch is None:
                self._touch = _whole_ms(now.utc_ns - (now.mono_ns - self.origin_mono_ns))
            return self._touch, 0.0
        offset = (seq - self.first_seq) * self._length
        seen = _whole_ms(now.utc_ns - (now.mono_ns - self.start_mono_ns(seq)))
        if self._base is None:
            self._base = seen - offset
        step_s = (seen - (self._base + offset)).total_seconds()
        if abs(step_s) <= STEP_S:
            return self._base + offset, 0.0
        self._base = seen - offset
        return seen, step_s

    def end(self, t_end: datetime) -> None:
        """Note where a clip ended: in media time the next one begins there."""
        self._touch = t_end


def _whole_ms(utc_ns: int) -> datetime:
    return CLOCK_EPOCH + timedelta(milliseconds=round(utc_ns / 1e6))


class Recording:
    """One clip from its first tick until it is answered or skipped: holds its pairs and knows its gaps.

    Args:
        plan: The plan as far as it is known; sizes are filled in by the first pair.
    """

    def __init__(self, plan: ClipPlan) -> None:
        self.plan = plan
        self.stats: ClipStats | None = None
        self.still: Still | None = None
        self.failed = False
        self.attempts = 0
        self.answered: set[str] = set()
        self.partial = False
        self.prompts: tuple[Prompt, ...] = ()  # what it is asked, from the first attempt on
        self.refused = 0  # pairs of another size, or out of order
        self._withheld: set[int] = set()  # indices of pairs that came while the camera was paused
        self._got = bytearray(math.ceil(round(plan.seconds * plan.fps) / 2))
        self._next = 0  # first pair index that may still come
        self._joined = 0  # first pair index that the present capture process may deliver
        self._pairs: list[Pair] = []
        self._cursor = 0
        self._stride = 1  # of the attempt in hand
        self._shown = -1  # the stretch of ``stride`` pairs that was shown last
        self.spared: SkipReason | None = None  # why nobody will work on it, so that its pairs are not held

    @property
    def closed(self) -> bool:
        """Whether the recording is over."""
        return self.stats is not None

    @property
    def count(self) -> int:
        """Pairs received so far."""
        return self._got.count(_GOT)

    @property
    def gated(self) -> int:
        """Pairs that the gate dropped so far."""
        return self._got.count(_GATED)

    @property
    def next_tick(self) -> int:
        """First tick of this clip that was not delivered yet."""
        return 2 * self._next

    @property
    def held(self) -> int:
        """Pairs held in memory."""
        return len(self._pairs)

    @property
    def t_end(self) -> datetime:
        """UTC at which the clip ends; the full length while it is being recorded."""
        seconds = self.plan.seconds if self.stats is None else self.stats.seconds
        return self.plan.t_start + timedelta(seconds=seconds)

    def offer(self, pair: Pair, source_size: Size | None) -> bool:
        """Take a pair; False if it does not belong: a repeated index, or another picture size than the clip's."""
        height, width = pair.frames.shape[1:3]
        size = Size(height, width)
        if self.count and size != self.plan.size:
            self.refused += 1
            return False
        if not self._next <= pair.index < len(self._got):
            self.refused += 1
            return False
        if not self.count:
            self.plan = replace(self.plan, size=size, source_size=source_size or size)
        self._got[pair.index] = _GOT
        self._next = pair.index + 1
        if not self.failed and not self.spared:
            self._pairs.append(pair)
        return True

    def withhold(self, indices: Sequence[int]) -> None:
        """Pass over pairs that came while the camera was paused: nobody sees them, and their time is accounted for."""
        for index in indices:
            if self._next <= index < len(self._got):
                self._withheld.add(index)
                self._next = index + 1

    def gate(self, indices: Sequence[int]) -> None:
        """Note pairs that the gate dropped: they were looked at, and are no gap."""
        for index in indices:
            if self._next <= index < len(self._got):
                self._got[index] = _GATED
                self._next = index + 1

    @property
    def paused(self) -> bool:
        """Whether any of it was withheld."""
        return bool(self._withheld)

    def take_still(self, still: Still | None) -> None:
        """Take the key frame; not that of a clip with a pause in it, for it may show what nobody was to see."""
        if not self.paused and not self.failed:
            self.still = still

    def capture_lost(self) -> None:
        """Note that the capture process is gone; the next one knows nothing of what came before."""
        self._joined = self._next

    def close(self, reported: ClipStats | None, *, seconds: float, reason: str = NO_REPORT) -> ClipStats:
        """End the recording.

        Args:
            reported: What the capture process counted; None if it could not say.
            seconds: Length that the clip really got; the report's own counts if there is one.
            reason: Names the spans that nobody reported.

        Returns:
            The statistics that hold, also kept in ``stats``.
        """
        if reported is not None and not self._joined and reported.pairs - reported.pairs_gated == self.count:
            self.stats = reported
        else:
            self.stats = self._reconciled(reported, seconds if reported is None else reported.seconds, reason)
        return self.stats

    def _reconciled(self, reported: ClipStats | None, seconds: float, reason: str) -> ClipStats:
        fps = self.plan.fps
        ticks = math.ceil(seconds * fps - 1e-6)
        pairs = math.ceil(ticks / 2)
        seen = self.count + self.gated
        joined_s = self._joined * 2 / fps
        told = [] if reported is None else _clipped(reported.gaps, joined_s)
        missing = [
            index
            for index in range(pairs)
            if not self._got[index] and not any(_inside(index * 2 / fps, span) for span in told)
        ]
        # The pairs before the join are the least that the lost process must have decoded.
        before = 2 * (self._joined - self._got[: self._joined].count(0))
        if self._joined:
            reason = CAPTURE_RESTARTED
        unseen = [index for index in missing if index not in self._withheld]
        gaps = [
            *told,
            *_spans(unseen, fps, seconds, reason),
            *_spans([index for index in missing if index in self._withheld], fps, seconds, PAUSED),
        ]
        return ClipStats(
            seconds=seconds,
            ticks=ticks,
            frames_decoded=before + (2 * seen - before if reported is None else reported.frames_decoded),
            ticks_repeated=0 if reported is None else min(reported.ticks_repeated, 2 * seen),
            ticks_empty=max(ticks - 2 * seen, 0 if reported is None else reported.ticks_empty),
            pairs=seen,
            late_max_s=0.0 if reported is None else reported.late_max_s,
            gaps=tuple(sorted(gaps, key=lambda span: span.start_s)),
            decode_s=0.0 if reported is None else reported.decode_s,
            pairs_gated=self.gated,
            gate=None if reported is None else reported.gate,
        )

    # --- towards the model ---

    def ready(self) -> int:
        """Return how many pairs wait to be handed out in this attempt."""
        return len(self._pairs) - self._cursor

    def rewind(self, *, stride: int = 1) -> None:
        """Begin an attempt from the first pair; of every ``stride`` places on the grid the first that has one counts."""
        self.attempts += 1
        self._cursor = 0
        self._stride = stride
        self._shown = -1

    def take(self, limit: int, *, keep: bool) -> tuple[Pair, ...]:
        """Hand out up to ``limit`` pairs, oldest first; ``keep`` holds them for another attempt. Thinned: maybe none."""
        pairs: list[Pair] = []
        while self._cursor < len(self._pairs) and len(pairs) < limit:
            pair = self._pairs[self._cursor]
            self._cursor += 1
            if pair.index // self._stride != self._shown:
                self._shown = pair.index // self._stride
                pairs.append(pair)
        if not keep:
            del self._pairs[: self._cursor]
            self._cursor = 0
        return tuple(pairs)

    def spare(self, why: SkipReason) -> None:
        """Let go of a clip that nobody will work on; it is recorded to its end, and then skipped."""
        self.spared = why
        self.free()

    def free(self) -> None:
        """Let go of all pairs."""
        self._pairs.clear()
        self._cursor = 0
        self.still = None


def thinned(pairs: Iterable[Pair], stride: int) -> Iterator[Pair]:
    """Yield of every ``stride`` places on the grid the first pair that there is."""
    shown = -1
    for pair in pairs:
        if pair.index // stride != shown:
            shown = pair.index // stride
            yield pair


def _clipped(spans: Sequence[Span], start_s: float) -> list[Span]:
    return [replace(span, start_s=max(span.start_s, start_s)) for span in spans if span.end_s > start_s]


def _inside(time_s: float, span: Span) -> bool:
    return span.start_s - 1e-9 <= time_s < span.end_s


def _spans(indices: Sequence[int], fps: float, seconds: float, reason: str) -> list[Span]:
    """Join consecutive pair indices into spans."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1][1] = index + 1
        else:
            runs.append([index, index + 1])
    return [Span(first * 2 / fps, min(last * 2 / fps, seconds), reason) for first, last in runs]
