"""Where the MQTT library by itself would lose messages or stop unnoticed, as measured with paho-mqtt 2.2.0.

its trap                                                the promise, and where it is tested
QoS 0 is dropped while offline                          telemetry only, and on purpose: test_mqtt (telemetry)
QoS 1 offline is queued in memory only                  the outbox: tests.faults (kills, power)
... where the newest is refused at the limit            the oldest goes, announced: tests.faults (outage)
... and "unlimited" ends at 65,535                      here
an exception in a callback ends its thread, unnoticed   test_mqtt (an owner that fails), and here
no PUBACK: 20 in flight and still "connected"           test_mqtt (the broker is silent; without drain)
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from edge.config import MqttSettings
from edge.deliver.mqtt import Backoff, Connected, Disconnected, Publisher, PublisherEvent
from edge.deliver.outbox import Outbox, Outgoing
from edge.deliver.topics import Topics
from tests import needs
from tests.broker import Mosquitto, eventually

TOPICS = Topics("edgeclip", "dev")
PAHO_LIMIT = 65_535
MEMORY = Path("/dev/shm")  # thousands of commits: no disk need wait for each


def answer(number: int) -> Outgoing:
    return Outgoing(f"a-{number}", TOPICS.answer("door", "summary"), b"{}", "door", number)


def publisher_of(outbox: Outbox, broker: Mosquitto, events: list[PublisherEvent]) -> Publisher:
    return Publisher(
        MqttSettings(host=broker.host, port=broker.port),
        TOPICS,
        outbox,
        client_id="edgeclip-dev",
        on_event=events.append,
        backoff=Backoff(0.05, 0.1),
    )


class Defective(Outbox):
    """Raises what nobody expects, twice."""

    failures = 2

    def pending(self, limit: int, *, without: Collection[str] = ()) -> list[Outgoing]:
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError
        return super().pending(limit, without=without)


def test_a_defect_in_the_thread_costs_a_connection_and_not_the_delivery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    needs.program("mosquitto", "mosquitto")
    events: list[PublisherEvent] = []
    with (
        Mosquitto(tmp_path / "broker") as broker,
        Defective(tmp_path / "outbox.db", max_bytes=2**20) as outbox,
    ):
        outbox.add([answer(n) for n in range(20)])
        publisher = publisher_of(outbox, broker, events)
        publisher.start()
        eventually(lambda: outbox.stats().pending == 0, "everything is delivered")
        assert publisher.alive
        publisher.close(5)
    assert events[:3] == [
        Connected("MQTT 5"),
        Disconnected("internal error: ZeroDivisionError"),
        Connected("MQTT 5"),
    ]
    assert caplog.text.count("failed unexpectedly") == 2  # with the traceback, each time


def test_the_library_s_own_thread_and_queue_are_not_used(tmp_path: Path) -> None:
    needs.program("mosquitto", "mosquitto")
    before = set(threading.enumerate())
    with Mosquitto(tmp_path / "broker") as broker, Outbox(tmp_path / "outbox.db", max_bytes=2**20) as outbox:
        publisher = publisher_of(outbox, broker, [])
        publisher.start()
        eventually(lambda: publisher.connected, "a connection")
        assert [thread.name for thread in set(threading.enumerate()) - before] == ["mqtt"]
        publisher.close(5)


@pytest.mark.slow
def test_more_messages_than_the_library_can_number_wait_and_are_delivered(tmp_path: Path) -> None:
    needs.program("mosquitto", "mosquitto")
    count = PAHO_LIMIT + 1000
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory,
        Mosquitto(tmp_path / "broker") as broker,
        Outbox(Path(directory) / "outbox.db", max_bytes=2**26) as outbox,
    ):
        outbox.add([answer(n) for n in range(count)])
        assert outbox.stats().pending == count
        publisher = publisher_of(outbox, broker, [])
        publisher.start()
        eventually(lambda: outbox.stats().pending == 0, "everything is delivered", within_s=280)
        assert outbox.stats().dropped == 0
        publisher.close(5)
