"""An outbox seen from outside, while a daemon may be using it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.deliver.ledger import ClipRow, CoverageRow, Ledger
from edge.deliver.outbox import OVERHEAD_BYTES, OutboxStats
from edge.deliver.store import Store
from edge.errors import DeliveryError


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an outbox holds."""

    epoch: str
    stats: OutboxStats
    coverage: dict[str, CoverageRow]
    open_clips: tuple[ClipRow, ...]


def inspect_outbox(path: Path) -> Inspection:
    """Read an outbox without taking it over; the daemon may be using it.

    Raises:
        DeliveryError: There is none, or it cannot be read.
    """
    if not path.exists():
        raise DeliveryError(
            f"there is no outbox at {path}", next_step="It is made when the daemon runs for the first time."
        )
    store = Store(path, read_only=True)
    try:
        queued = store.queued()
        clips = store.clips()
        return Inspection(
            epoch=store.epoch(),
            stats=OutboxStats(
                pending=len(queued),
                bytes=sum(entry.size + OVERHEAD_BYTES for entry in queued),
                dropped=store.dropped(),
            ),
            coverage=Ledger(store.cameras(), clips).coverage(),
            open_clips=tuple(clips),
        )
    finally:
        store.close()
