"""One camera as the dispatcher sees it: the clip being recorded, the whole ones that wait, and what is known of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from edge.daemon.effects import ClipEnded, ClipOpened, ClockStepped, Effect
from edge.daemon.recording import Now, Recording, Timeline
from edge.messages import Answer, SkipReason, clip_id
from edge.records import ClipPlan, Size


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

    def begin(self, device: str, epoch: str, *, seconds: float, fps: float, now: Now) -> list[Effect]:
        """Begin the next clip; how its time is anchored is told if the wall clock was set."""
        seq = self.next_seq
        self.next_seq += 1
        t_start, step_s = self.timeline.begin(seq, now)
        size = self.source_size or Size(0, 0)
        plan = ClipPlan(
            camera=self.camera,
            seq=seq,
            clip_id=clip_id(device, self.camera, epoch, seq),
            t_start=t_start,
            clock_synced=now.synced,
            seconds=seconds,
            fps=fps,
            size=size,
            source_size=size,
        )
        self.open = Recording(plan)
        opened = ClipOpened(self.camera, seq, plan.clip_id, t_start, plan.seconds, plan.clock_synced)
        return [ClockStepped(self.camera, step_s), opened] if step_s else [opened]

    def late_s(self, now: Now) -> float:
        """Return for how long the oldest whole clip has waited; 0 where clips wait for the model, not it for them."""
        if self.lossless or not self.waiting:
            return 0.0
        return (now.mono_ns - self.timeline.end_mono_ns(self.waiting[0].plan.seq)) / 1e9

    def recorded_s(self, clip: Recording, fps: float) -> float:
        """Return the length of what was delivered of a clip."""
        return min(clip.next_tick / fps, clip.plan.seconds)

    def elapsed_s(self, clip: Recording, now: Now, fps: float) -> float:
        """Return for how long a clip has been recorded."""
        if not self.timeline.paced:
            return self.recorded_s(clip, fps)
        elapsed_s = (now.mono_ns - self.timeline.start_mono_ns(clip.plan.seq)) / 1e9
        return min(max(elapsed_s, 0.0), clip.plan.seconds)


def next_lane(lanes: Iterable[Lane], *, early: bool) -> Lane | None:
    """Return the lane whose clip is next: a whole one before one being recorded, the camera served longest ago first.

    With several cameras a clip that is begun early may hold up the others, but at most until it ends, and then no clip is
    begun early before all whole ones are done.

    Args:
        lanes: All of them.
        early: Whether a clip may be begun that is still being recorded.
    """
    lanes = tuple(lanes)
    whole = [lane for lane in lanes if lane.waiting]
    growing = [lane for lane in lanes if early and lane.open is not None and lane.open.ready()]
    return min(whole or growing, key=lambda lane: lane.turn, default=None)


def away(clip: Recording) -> str:
    """Say why a clip without a picture has none."""
    gaps = () if clip.stats is None else clip.stats.gaps
    return gaps[0].reason if gaps else "nothing came from the camera"


def ended(
    clip: Recording,
    outcome: Literal["answered", "partial", "skipped"],
    *,
    answer: Answer | None = None,
    reason: SkipReason | None = None,
    detail: str = "",
) -> ClipEnded:
    """Return what is to be written and said of a clip that is over."""
    plan = clip.plan
    return ClipEnded(
        camera=plan.camera,
        seq=plan.seq,
        clip_id=plan.clip_id,
        t_start=plan.t_start,
        t_end=clip.t_end,
        seconds=plan.seconds if clip.stats is None else clip.stats.seconds,
        clock_synced=plan.clock_synced,
        outcome=outcome,
        answer=answer,
        reason=reason,
        detail=detail,
        pairs=clip.count,
        answered=tuple(p.name for p in clip.prompts if reason is not None and p.name in clip.answered),
    )
