"""The clip ledger in memory: which clips are in hand, which number comes next, and what became of the time.

It holds the rule of the service: a clip is opened once, with the next number of its camera, and ends exactly once.
Pure; `edge.deliver.outbox` writes it to disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edge.errors import DeliveryError

Outcome = Literal["answered", "partial", "skipped"]


@dataclass(frozen=True, slots=True)
class ClipRow:
    """A clip in hand.

    Attributes:
        seq: Number of the clip for its camera, consecutive from 0.
        t_start: UTC of its first tick, RFC 3339.
        seconds: Full length; what it really got is told when it ends.
        clock_synced: Whether the wall clock was synchronised at ``t_start``.
        answered: Prompts of which the answer is committed; the clip ends with the last one.
    """

    clip_id: str
    camera: str
    seq: int
    t_start: str
    seconds: float
    clock_synced: bool
    answered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CameraRow:
    """What is kept of one camera's past: the next number and the seconds of ended clips by outcome."""

    camera: str
    next_seq: int = 0
    answered_s: float = 0.0
    partial_s: float = 0.0
    skipped_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """Seconds of one camera's clips; ``total_s`` is the sum of the others."""

    total_s: float
    answered_s: float
    partial_s: float
    skipped_s: float
    in_hand_s: float


class Ledger:
    """The state that the outbox's file holds of clips and cameras."""

    def __init__(self, cameras: Iterable[CameraRow] = (), clips: Iterable[ClipRow] = ()) -> None:
        self._cameras = {row.camera: row for row in cameras}
        self._clips = {row.clip_id: row for row in clips}

    @property
    def cameras(self) -> Mapping[str, CameraRow]:
        """Totals by camera."""
        return self._cameras

    @property
    def clips(self) -> Mapping[str, ClipRow]:
        """Clips in hand by id, in the order in which they were opened."""
        return self._clips

    def next_seq(self, camera: str) -> int:
        """Return the number that this camera's next clip must have."""
        row = self._cameras.get(camera)
        return 0 if row is None else row.next_seq

    def open(self, row: ClipRow) -> None:
        """Take a clip in hand.

        Raises:
            DeliveryError: The clip is in hand already, or its number is not the camera's next one.
        """
        expected = self.next_seq(row.camera)
        if row.clip_id in self._clips or row.seq != expected:
            raise DeliveryError(
                f"clip {row.clip_id} of camera {row.camera} cannot be opened",
                evidence=[f"its number is {row.seq}, the next number is {expected}"],
                next_step="This is a defect of edgeclip; please report it.",
            )
        camera = self._cameras.get(row.camera, CameraRow(row.camera))
        self._cameras[row.camera] = replace(camera, next_seq=row.seq + 1)
        self._clips[row.clip_id] = row

    def answer(self, clip_id: str, prompt: str) -> ClipRow:
        """Note that a clip in hand is answered to one prompt, and has more to come.

        Raises:
            DeliveryError: The clip is not in hand.
        """
        row = self._in_hand(clip_id, f"be answered to {prompt}")
        row = self._clips[clip_id] = replace(row, answered=(*row.answered, prompt))
        return row

    def end(self, clip_id: str, outcome: Outcome, seconds: float) -> ClipRow:
        """End a clip in hand and count its seconds.

        Raises:
            DeliveryError: The clip is not in hand: it was never opened, or it has ended.
        """
        row = self._in_hand(clip_id, f"end as {outcome}")
        camera = self._cameras[row.camera]
        match outcome:
            case "answered":
                camera = replace(camera, answered_s=camera.answered_s + seconds)
            case "partial":
                camera = replace(camera, partial_s=camera.partial_s + seconds)
            case "skipped":
                camera = replace(camera, skipped_s=camera.skipped_s + seconds)
        del self._clips[clip_id]
        self._cameras[row.camera] = camera
        return row

    def _in_hand(self, clip_id: str, what: str) -> ClipRow:
        row = self._clips.get(clip_id)
        if row is None:
            raise DeliveryError(
                f"clip {clip_id} cannot {what}",
                evidence=["it was never opened, or it has ended already"],
                next_step="This is a defect of edgeclip; please report it.",
            )
        return row

    def coverage(self) -> dict[str, CoverageRow]:
        """Return, by camera, the seconds of all clips ever opened, by what became of them."""
        in_hand = dict.fromkeys(self._cameras, 0.0)
        for row in self._clips.values():
            in_hand[row.camera] += row.seconds
        return {
            name: CoverageRow(
                total_s=row.answered_s + row.partial_s + row.skipped_s + in_hand[name],
                answered_s=row.answered_s,
                partial_s=row.partial_s,
                skipped_s=row.skipped_s,
                in_hand_s=in_hand[name],
            )
            for name, row in self._cameras.items()
        }
