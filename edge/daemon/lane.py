"""One camera as the dispatcher sees it: the clip being recorded, the whole ones that wait, and what is known of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from edge.daemon.recording import Now, Recording, Timeline
from edge.records import Size


@dataclass(slots=True)
class Lane:
    """The state of one camera.

    Attributes:
        eager: Whether the next clip surely comes: a live camera never ends, a file may.
        lossless: Whether it is read no faster than the model works.
        paused: Whether its pictures are passed over.
        turn: Of the model; the smaller, the longer ago.
    """

    camera: str
    timeline: Timeline
    eager: bool
    lossless: bool
    next_seq: int
    open: Recording | None = None
    waiting: deque[Recording] = field(default_factory=deque)
    source_size: Size | None = None
    connected: bool = True
    paused: bool = False
    ended: bool = False
    turn: int = -1

    def recorded_s(self, clip: Recording, fps: float) -> float:
        """Return the length of what was delivered of a clip."""
        return min(clip.next_tick / fps, clip.plan.seconds)

    def elapsed_s(self, clip: Recording, now: Now, fps: float) -> float:
        """Return for how long a clip has been recorded."""
        if not self.timeline.paced:
            return self.recorded_s(clip, fps)
        elapsed_s = (now.mono_ns - self.timeline.start_mono_ns(clip.plan.seq)) / 1e9
        return min(max(elapsed_s, 0.0), clip.plan.seconds)


def away(clip: Recording) -> str:
    """Say why a clip without a picture has none."""
    gaps = () if clip.stats is None else clip.stats.gaps
    return gaps[0].reason if gaps else "nothing came from the camera"
