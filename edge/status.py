"""What `edge status` shows: the ledger of the outbox, read beside the service or without it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from edge.answer.text import plain
from edge.config import Settings
from edge.daemon.health import coverage
from edge.messages import Coverage


class CameraStatus(BaseModel):
    """What became of one camera's video since the state epoch began."""

    model_config = ConfigDict(frozen=True)

    camera: str
    coverage: Coverage


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
            found = camera.coverage
            ended = found.total - found.in_hand
            parts = (("answered", found.answered), ("partial", found.partial), ("skipped", found.skipped))
            shares = ", ".join(f"{name} {seconds / ended:.1%}" for name, seconds in parts if ended > 0)
            lines.append(
                f"{plain(camera.camera)}: coverage {found.percent:g} % of {_length(ended)}"
                f"{f' ({shares})' if shares else ''}; {_length(found.in_hand)} in hand"
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
    from edge.deliver.inspection import inspect_outbox

    path = settings.outbox_path()
    found = inspect_outbox(path)
    return Status(
        outbox=str(path),
        epoch=found.epoch,
        cameras=tuple(
            CameraStatus(camera=camera, coverage=coverage([row]))
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
