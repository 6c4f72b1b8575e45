"""What the running service says of its outbox."""

from __future__ import annotations

from pathlib import Path

from tests import needs
from tests.broker import Mosquitto, Subscriber, eventually
from tests.media import film, steady
from tests.service import Heard, Service


def test_a_damaged_outbox_is_reported_and_the_service_goes_on_with_a_new_one(tmp_path: Path) -> None:
    needs.program("mosquitto", "mosquitto")
    needs.program("mosquitto_sub", "mosquitto-clients")
    reel = film(tmp_path / "reel.mp4", steady(32, fps=8))
    (tmp_path / "outbox.db").write_bytes(b"not a database" * 1000)
    with (
        Mosquitto(tmp_path / "broker") as broker,
        Subscriber(broker, "edgeclip/v1/d/#") as subscriber,
        Service(tmp_path, broker, {"cam": {"source": str(reel), "realtime": False}}) as service,
    ):
        assert service.end(None) == 0
        eventually(lambda: len(Heard(subscriber.received).answers) == 4, "two clips are answered")
        health = Heard(subscriber.received).health[-1]
    assert "damaged" in health["outbox_trouble"]
    assert list(tmp_path.glob("outbox.db.damaged-*"))
