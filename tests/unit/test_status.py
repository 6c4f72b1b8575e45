"""What `edge status` reads from an outbox, beside the service that owns it."""

from pathlib import Path

import pytest

from edge.config import Settings
from edge.deliver.outbox import ClipRow, Outbox, Outgoing
from edge.errors import DeliveryError
from edge.status import read_status


def settings(path: Path) -> Settings:
    return Settings.model_validate(
        {"bundle": {"path": "b"}, "camera": [{"id": "door", "source": "x"}], "outbox": {"path": path}}
    )


def test_the_ledger_is_read_while_the_service_owns_it(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with Outbox(path, max_bytes=1 << 20) as outbox:
        for seq, outcome in enumerate(("answered", "answered", "partial", "skipped")):
            outbox.open_clip(ClipRow(f"clip-{seq}", "door", seq, "2026-11-01T00:00:00Z", 60.0, True))
            message = Outgoing(f"id-{seq}", "edgeclip/v1/pi/door/summary", b"{}", "door")
            outbox.commit(f"clip-{seq}", outcome, 60.0, [message])  # type: ignore[arg-type]
        outbox.open_clip(ClipRow("clip-4", "door", 4, "2026-11-01T00:04:00Z", 60.0, True))
        status = read_status(settings(path))
    (camera,) = status.cameras
    found = camera.coverage
    assert (found.answered, found.partial, found.skipped, found.in_hand) == (120, 60, 60, 60)
    assert (found.total, found.percent) == (300, 100)
    assert (status.pending, status.dropped, status.clips_in_hand) == (4, 0, 1)
    first, last = status.render().splitlines()
    assert first == (
        "door: coverage 100 % of 4 min 00 s (answered 50.0%, partial 25.0%, skipped 25.0%); 1 min 00 s in hand"
    )
    assert last.startswith("outbox: 4 waiting")


def test_a_service_that_has_not_seen_a_clip_yet(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=1 << 20):
        pass
    status = read_status(settings(tmp_path / "outbox.db"))
    assert status.cameras == ()
    assert status.render().startswith("no clip yet")


def test_without_an_outbox_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="no outbox"):
        read_status(settings(tmp_path / "outbox.db"))
    assert list(tmp_path.iterdir()) == []
