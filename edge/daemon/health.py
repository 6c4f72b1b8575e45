"""What the service says of itself and of clips that nobody answers: health, coverage, skipped clips, last headline."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from edge import __version__
from edge.daemon.children import Loaded
from edge.daemon.effects import ClipEnded
from edge.deliver.outbox import ClipRow, CoverageRow, OutboxStats, Outgoing
from edge.messages import (
    Answer,
    CameraHealth,
    CommandTotals,
    Coverage,
    GovernorHealth,
    Health,
    Skipped,
    State,
    message_id,
)

SOFTWARE = f"edgeclip {__version__}"


def coverage(rows: Iterable[CoverageRow], *, missing_s: float = 0.0) -> Coverage:
    """Add up what became of the time.

    Args:
        rows: The ledger's totals.
        missing_s: Time that has passed and lies in no clip: 0 as long as the service keeps its promise.
    """
    rows = tuple(rows)
    answered = sum(row.answered_s for row in rows)
    partial = sum(row.partial_s for row in rows)
    skipped = sum(row.skipped_s for row in rows)
    accounted = answered + partial + skipped
    over = accounted + missing_s
    return Coverage(
        total=round(sum(row.total_s for row in rows) + missing_s, 3),
        answered=round(answered, 3),
        partial=round(partial, 3),
        skipped=round(skipped, 3),
        in_hand=round(sum(row.in_hand_s for row in rows), 3),
        percent=100.0 if over <= 0 else round(100.0 * accounted / over, 3),
    )


def status_line(total: Coverage, *, waiting: int) -> str:
    """Return the line for ``systemctl status``."""
    return (
        f"coverage {total.percent:g} % of {total.total / 60:.1f} min: {total.answered / 60:.1f} answered, "
        f"{total.partial / 60:.1f} partial, {total.skipped / 60:.1f} skipped; {waiting} messages wait for the broker"
    )


def skipped(device: str, end: ClipEnded) -> Skipped:
    """Announce a clip that ended without its last answer, or without any."""
    return Skipped(
        id=message_id(end.clip_id, "skipped"),
        clip_id=end.clip_id,
        seq=end.seq,
        device=device,
        camera=end.camera,
        t_start=end.t_start,
        t_end=end.t_end,
        clock_synced=end.clock_synced,
        reason=end.reason or "inference_failed",
        detail=end.detail,
        status="partial" if end.outcome == "partial" else "skipped",
        answered=end.answered,
    )


def interrupted(row: ClipRow, now: datetime) -> ClipEnded:
    """End a clip that a killed run left in hand; it reaches at most to ``now``, where the next run begins."""
    t_start = datetime.fromisoformat(row.t_start)
    seconds = min(max((now - t_start).total_seconds(), 0.0), row.seconds)
    return ClipEnded(
        camera=row.camera,
        seq=row.seq,
        clip_id=row.clip_id,
        t_start=t_start,
        t_end=t_start + timedelta(seconds=seconds),
        seconds=seconds,
        clock_synced=row.clock_synced,
        outcome="partial" if row.answered else "skipped",
        answer=None,
        reason="interrupted",
        detail="the service was killed while the clip was in hand",
        answered=row.answered,
    )


def state(answer: Answer) -> State:
    """Return the small retained message that shows the last headline of a camera."""
    return State(
        id=answer.id,
        device=answer.device,
        camera=answer.camera,
        clip_id=answer.clip_id,
        prompt=answer.prompt,
        time=answer.t_end,
        status=answer.status,
        headline=answer.headline,
    )


def answer_message(topic: str, answer: Answer) -> Outgoing:
    """Wrap an answer for the outbox."""
    return Outgoing(id=answer.id, topic=topic, payload=answer.payload(), camera=answer.camera, seq=answer.seq)


def skipped_message(topic: str, message: Skipped) -> Outgoing:
    """Wrap the announcement of a skipped clip for the outbox."""
    return Outgoing(
        id=message.id, topic=topic, payload=message.payload(), camera=message.camera, seq=message.seq
    )


def health(
    *,
    device: str,
    synced: bool,
    uptime_s: float,
    loaded: Loaded | None,
    total: Coverage,
    cameras: Sequence[CameraHealth],
    engine: Literal["starting", "idle", "busy", "stopped"],
    engine_restarts: int,
    waiting: OutboxStats,
    trouble: str,
    commands: CommandTotals,
    rss: float,
    temperature_c: float | None,
    governor: GovernorHealth,
) -> Health:
    """Say how the device is."""
    return Health(
        id=str(uuid.uuid4()),
        device=device,
        time=datetime.now(UTC),
        clock_synced=synced,
        uptime_s=round(uptime_s, 1),
        software=SOFTWARE,
        model=loaded.model if loaded else "",
        note=loaded.note if loaded else "",
        coverage=total,
        cameras=tuple(cameras),
        engine=engine,
        engine_restarts=engine_restarts,
        outbox_pending=waiting.pending,
        outbox_bytes=waiting.bytes,
        outbox_dropped=waiting.dropped,
        outbox_trouble=trouble,
        rss_mib=round(rss, 1),
        temperature_c=temperature_c,
        commands=commands,
        governor=governor,
    )
