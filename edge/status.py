"""What `edge status` shows: the ledger of the outbox, read beside the service or without it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from edge.answer.text import plain
from edge.config import Settings


class CameraStatus(BaseModel):
    """Seconds of one camera's video by what became of them; ``total`` is the sum of the others."""

    model_config = ConfigDict(frozen=True)

    camera: str
    total: float
    answered: float
    partial: float
    skipped: float
    in_hand: float


class Status(BaseModel):
    """An outbox as it lies on the disk.

    Attributes:
        outbox: Its file.
        epoch: State epoch: since when the ledger counts.
        cameras: By camera.
        clips_in_hand: Clips that are not over; left over from a killed service where none runs.
        pending: Messages that wait for the broker.
        pending_bytes: Their size.
        dropped: Messages that were given up since the epoch began because the outbox was full.
    """

    model_config = ConfigDict(frozen=True)

    outbox: str
    epoch: str
    cameras: tuple[CameraStatus, ...]
    clips_in_hand: int
    pending: int
    pending_bytes: int
    dropped: int

    def render(self) -> str:
        """Return the lines for a person."""
        lines = []
        for camera in self.cameras:
            ended = camera.total - camera.in_hand
            shares = ", ".join(
                f"{name} {seconds / ended:.1%}" if ended > 0 else f"{name} -"
                for name, seconds in (
                    ("answered", camera.answered),
                    ("partial", camera.partial),
                    ("skipped", camera.skipped),
                )
            )
            lines.append(
                f"{plain(camera.camera)}: {_length(ended)} of video: {shares}; {_length(camera.in_hand)} in hand"
            )
        if not lines:
            lines.append("no clip yet")
        lines.append(
            f"outbox: {self.pending} waiting ({self.pending_bytes / 1024:,.0f} KiB), {self.dropped} dropped"
        )
        return "\n".join(lines)


def read_status(settings: Settings) -> Status:
    """Read the outbox that a configuration names.

    Raises:
        DeliveryError: There is none, or it cannot be read.
    """
    from edge.deliver.outbox import inspect_outbox

    path = settings.outbox_path()
    found = inspect_outbox(path)
    return Status(
        outbox=str(path),
        epoch=found.epoch,
        cameras=tuple(
            CameraStatus(
                camera=camera,
                total=row.total_s,
                answered=row.answered_s,
                partial=row.partial_s,
                skipped=row.skipped_s,
                in_hand=row.in_hand_s,
            )
            for camera, row in sorted(found.coverage.items())
        ),
        clips_in_hand=len(found.open_clips),
        pending=found.stats.pending,
        pending_bytes=found.stats.bytes,
        dropped=found.stats.dropped,
    )


def _length(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s"
